// Repairs: brings a chain from any state to a sound one.

#include <algorithm>

#include "driver/chain_impl.hpp"

namespace farmesh::driver {
namespace {

constexpr int kOwnFault = 8;                         // of kMaxFaults, for a failure of its own
constexpr std::chrono::milliseconds kFirstWait{50};  // for room, or a peer to return; doubles
constexpr std::chrono::milliseconds kLongestWait{1'000};
constexpr std::chrono::milliseconds kReplayPause{20};

bool is_full(Errc code) {
  return code == Errc::busy || code == Errc::no_cache_space || code == Errc::too_many_sessions ||
         code == Errc::quota || code == Errc::out_of_memory;
}

bool is_useless(Errc code) {
  return code == Errc::weights_mismatch || code == Errc::numerics_mismatch ||
         code == Errc::config_mismatch || code == Errc::version_unsupported ||
         code == Errc::span_unavailable || code == Errc::grant_required ||
         code == Errc::unsupported || code == Errc::receipt_invalid;
}

/// What a peer did wrong by itself, for which other sessions had better avoid it too.
bool is_its_own_fault(Errc code) {
  return code == Errc::compute_failed || code == Errc::bad_payload || code == Errc::bad_shape ||
         code == Errc::bad_header;
}

}  // namespace

struct Chain::Impl::Repair {
  int redials = 0;                                      // since there was a route
  bool looked = false;                                  // for peers not connected to
  std::vector<std::pair<std::string, Error>> refusals;  // of the last redial
  TimePoint route_deadline;                             // for the last redial
  TimePoint room_deadline;
  Duration next_wait = kFirstWait;
};

net::Task<Result<void>> Chain::Impl::establish() {
  Repair repair;
  repair.room_deadline = now() + options.capacity_patience;
  for (auto& [address, standing] : standings) {
    standing.tries = 0;
    standing.full = false;
  }
  without_history.clear();
  while (!sound()) {
    if (closed) co_return still_open();
    if (any_lost()) {
      // Hops that could not be opened are bounded by their tries, or by room_deadline.
      const Error error = first_loss();
      const bool counts = std::any_of(hops.begin(), hops.end(),
                                      [](const auto& hop) { return hop->lost && hop->was_open(); });
      if (counts && now() - last_progress > options.stall_limit) co_return error;
      discard_lost();
    }
    auto filling = fill_holes(repair);
    const Result<void> filled = co_await std::move(filling);
    if (!filled) co_return filled;
    auto opening_all = open_hops();
    co_await std::move(opening_all);
    if (closed) co_return still_open();
    if (any_lost()) continue;
    repair.redials = 0;
    auto rebuilding = rebuild();
    const Result<void> rebuilt = co_await std::move(rebuilding);
    if (!rebuilt) co_return rebuilt;
  }
  co_return Result<void>();
}

Error Chain::Impl::first_loss() const {
  for (const auto& hop : hops) {
    if (hop->lost) return *hop->lost;
  }
  return {};
}

/// Takes lost hops out of the route and remembers what they did.
void Chain::Impl::discard_lost() {
  for (const auto& hop : hops) {
    if (!hop->lost) continue;
    Standing& standing = standings[hop->address];
    standing.error = *hop->lost;
    standing.when = now();
    standing.full = is_full(standing.error.code);
    standing.useless = is_useless(standing.error.code);
    if (!standing.full) ++standing.tries;
    const bool own_fault = is_its_own_fault(standing.error.code);
    if (hop->was_open()) standing.faults += own_fault ? kOwnFault : 1;
    if (own_fault) peers.report_failure(hop->address, standing.error);
    if (hop->was_open()) tell(ChainEvent::Kind::lost, hop->address, hop->span);
  }
  for (auto& hop : hops) {
    if (!hop->lost) continue;
    close_session_on(hop->connection);
    if (!take_over(hop)) drop_standby(*hop);
  }
  std::erase_if(hops, [](const auto& hop) { return hop->lost.has_value(); });
  if (established) ++recoveries;
  // What is still on its way through the old route no longer counts, here or there.
  ++epoch;
  needs_new_epoch = true;
  new_range = true;
  replies.clear();
}

// --- planning ------------------------------------------------------------------------------

net::Task<Result<void>> Chain::Impl::fill_holes(Repair& repair) {
  for (;;) {
    Result<std::vector<std::shared_ptr<Hop>>> route = planned();
    if (!route) route = planned_anew();
    if (route && !repair.looked && tries_again(*route)) {
      // Somebody who was not dialled yet may do better than a peer that failed just now.
      repair.looked = true;
      auto looking = peers.connect_all(now() + options.silence, false, true);
      co_await std::move(looking);
      if (closed) co_return still_open();
      continue;
    }
    if (route) {
      take_route(std::move(*route));
      auto waiting = wait_for_room(repair);
      const Result<void> room = co_await std::move(waiting);
      co_return room;
    }
    if (repair.redials > 0 && established && !any_class) {
      any_class = true;  // rather other arithmetic than no answer; the session is marked
      continue;
    }
    auto dialling = redial(repair);
    const bool dialled = co_await std::move(dialling);
    if (closed) co_return still_open();
    if (!dialled) co_return without_route(repair, route.error());
  }
}

/// A hop that is to be opened failed in this very repair.
bool Chain::Impl::tries_again(const std::vector<std::shared_ptr<Hop>>& route) const {
  return std::any_of(route.begin(), route.end(), [this](const auto& hop) {
    const auto standing = standings.find(hop->address);
    return hop->needs_open && standing != standings.end() && standing->second.tries > 0;
  });
}

/// Nobody is left for some layer: dials every known address once more, banned or not; again and
/// again for a while if the session is under way, as peers restart. False: it has been enough.
net::Task<bool> Chain::Impl::redial(Repair& repair) {
  if (repair.redials == 0) {
    repair.route_deadline = now() + (established ? options.route_patience : Duration::zero());
    repair.next_wait = kFirstWait;
  } else {
    if (now() >= repair.route_deadline) co_return false;
    auto pausing = pause(repair.next_wait);
    co_await std::move(pausing);
    if (closed) co_return false;
    repair.next_wait = std::min<Duration>(repair.next_wait * 2, kLongestWait);
  }
  ++repair.redials;
  // In mid-session the first that answers may be enough.
  auto dialling = peers.connect_all(now() + peers.options().dial_timeout, true, established);
  repair.refusals = co_await std::move(dialling);
  for (auto& [address, standing] : standings) standing.tries = 0;
  co_return true;
}

void Chain::Impl::take_route(std::vector<std::shared_ptr<Hop>> route) {
  for (const auto& hop : std::exchange(hops, std::move(route))) {
    const bool stays = std::find(hops.begin(), hops.end(), hop) != hops.end();
    if (stays) continue;
    drop_standby(*hop);
    // Opened anew for other layers it would not be told which rows were used.
    const Hop* again = find(hop->address);
    if (again == nullptr || again->span != hop->span) close_session_on(hop->connection);
  }
  for (const auto& hop : hops) {
    if (hop->standby && find(hop->standby->address) != nullptr) hop->standby = nullptr;
  }
}

/// Why there is no route: a peer that was refused tells more than a layer without one.
Error Chain::Impl::without_route(const Repair& repair, Error error) const {
  for (const auto& [address, standing] : standings) {
    if (standing.faults >= kMaxFaults) return standing.error;
  }
  for (const auto& [address, refusal] : repair.refusals) {
    if (is_useless(refusal.code)) return refusal;
  }
  for (const auto& [address, standing] : standings) {
    if (standing.tries > 0 || standing.useless) error.detail += "; " + standing.error.to_string();
  }
  return error;
}

/// If only a full peer is left for some layers: waits a little before it is asked again.
net::Task<Result<void>> Chain::Impl::wait_for_room(Repair& repair) {
  const Standing* full = nullptr;
  for (const auto& hop : hops) {
    if (!hop->needs_open) continue;
    const auto standing = standings.find(hop->address);
    if (standing != standings.end() && standing->second.full) full = &standing->second;
  }
  if (full == nullptr) co_return Result<void>();
  if (now() >= repair.room_deadline) co_return full->error;
  auto pausing = pause(repair.next_wait);
  co_await std::move(pausing);
  repair.next_wait = std::min<Duration>(repair.next_wait * 2, kLongestWait);
  co_return still_open();
}

// --- opening -------------------------------------------------------------------------------

net::Task<void> Chain::Impl::open_hops() {
  for (const auto& hop : hops) {
    if (!hop->needs_open) continue;
    ++opening;
    net::spawn(peers.clock().executor(), "driver open", open_one(shared_from_this(), hop));
  }
  while (opening > 0 && !closed) {
    changed.reset();
    co_await changed.wait(TimePoint::max());
  }
  if (closed || any_lost() || established) co_return;
  established = true;
  // A fresh session starts behind the prefix that every hop has in its cache.
  std::uint32_t most = 0;
  positions = hops.front()->held;
  for (const auto& hop : hops) {
    positions = std::min(positions, hop->held);
    most = std::max(most, hop->held);
  }
  needs_new_epoch = most > positions;
}

net::Task<void> Chain::Impl::open_one(Self self, std::shared_ptr<Hop> hop) {
  Impl& chain = *self;
  const TimePoint deadline = chain.now() + chain.peers.options().dial_timeout;
  if (!hop->connection) {
    auto connecting = chain.peers.connection(hop->address, deadline, chain.any_class);
    Result<std::shared_ptr<net::Connection>> connection = co_await std::move(connecting);
    if (chain.closed) co_return;
    if (connection) {
      hop->connection = std::move(*connection);
    } else {
      chain.lose(*hop, connection.error());
    }
  }
  if (!hop->lost) {
    const wire::Open open = chain.open_message(*hop->connection, hop->span);
    auto asking = hop->connection->call(wire::Verb::open, wire::encode(open), {}, deadline);
    const Result<wire::Frame> answer = co_await std::move(asking);
    if (chain.closed) co_return;
    const Result<wire::OpenReply> reply =
        answer ? wire::decode<wire::OpenReply>(answer->header) : answer.error();
    if (reply && reply->activations != chain.options.activations) {
      // It skipped what it does not know, and would read other rows than are sent.
      chain.lose(*hop, {Errc::unsupported, hop->address + ": its version takes no rows in " +
                                               std::string(name(chain.options.activations))});
    } else if (reply) {
      chain.opened(*hop, *reply);
    } else {
      if (reply.error().code == Errc::timeout) {
        chain.peers.disconnect(hop->address, reply.error());
      }
      chain.lose(*hop, {reply.error().code, hop->address + ": " + reply.error().detail});
    }
  }
  --chain.opening;
  chain.changed.set();
}

wire::Open Chain::Impl::open_message(const net::Connection& connection, Span span) const {
  wire::Open open;
  open.session = options.session;
  open.epoch = epoch;
  open.span = span;
  open.max_positions = options.max_positions;
  open.model_hash = peers.options().model_hash;
  open.numerics_class = connection.remote().service.numerics_class;
  open.page_names = options.page_names;
  open.traceparent = options.traceparent;
  open.prompt_positions = options.prompt_positions;
  open.activations = options.activations;
  const auto& key = peers.options().key;
  if (options.bill && key) open.grant = options.bill->grant(open.model_hash, *key);
  return open;
}

/// What the peer does on this connection is added up there.
Bill::Tally* Chain::Impl::tally_of(const std::shared_ptr<net::Connection>& connection,
                                   Span span) const {
  const auto& key = peers.options().key;
  if (!options.bill || !key) return nullptr;
  const NodeId& node = connection->remote().node_id;
  const bool own = node == key->id();
  return &options.bill->tally(node, span, own ? nullptr : connection);
}

void Chain::Impl::opened(Hop& hop, const wire::OpenReply& reply) {
  const bool is_new = !hop.was_open();
  hop.needs_open = false;
  hop.held = established ? std::min(reply.held_positions, positions) : reply.held_positions;
  hop.held = std::min(hop.held, options.max_positions);
  hop.max_step_rows = std::max(reply.max_step_rows, 1u);
  hop.window_steps = reply.window_steps;
  hop.tally = tally_of(hop.connection, hop.span);
  const std::string& its_class = hop.connection->remote().service.numerics_class;
  if (numerics_class.empty()) numerics_class = its_class;
  if (is_new && its_class != numerics_class) ++numerics_changes;
  if (!is_new) return;
  tell(established ? ChainEvent::Kind::replaced : ChainEvent::Kind::opened, hop.address, hop.span);
}

// --- rebuilding ----------------------------------------------------------------------------

/// Brings every hop to the committed positions. Success with any_lost(): begin again.
net::Task<Result<void>> Chain::Impl::rebuild() {
  const auto lacks = [this](const auto& hop) { return hop->held < positions; };
  while (!closed && !any_lost()) {
    const auto begin = std::find_if(hops.begin(), hops.end(), lacks);
    if (begin == hops.end()) co_return Result<void>();
    const auto end = std::find_if_not(begin, hops.end(), lacks);
    auto rebuilding = rebuild_hole(static_cast<std::size_t>(begin - hops.begin()),
                                   static_cast<std::size_t>(end - hops.begin()));
    const Result<void> rebuilt = co_await std::move(rebuilding);
    if (!rebuilt) co_return rebuilt;
  }
  co_return still_open();
}

/// Sends hops [begin, end) their inputs again, from the nearest hop before them that still has
/// what it sent; hops between are run through again. Without one, from the token ids.
net::Task<Result<void>> Chain::Impl::rebuild_hole(std::size_t begin, std::size_t end) {
  std::uint32_t from = positions;
  for (std::size_t i = begin; i < end; ++i) from = std::min(from, hops[i]->held);
  auto searching = find_source(begin, from);
  const std::optional<std::size_t> source = co_await std::move(searching);
  if (closed || any_lost()) co_return still_open();

  ++epoch;  // under which the hops of the flow forget what they hold beyond `from`
  replies.clear();
  needs_new_epoch = true;
  replaying = true;
  Flow flow;
  flow.from = from;
  flow.to = positions;
  flow.first = source ? *source + 1 : 0;
  flow.last = end - 1;
  flow.replay = true;
  flow.from_history = source.has_value();
  // What is rebuilt stays so, should this flow be broken off.
  flow.on_rows = [this, first = flow.first, last = flow.last](const auto& reply, const Payload&) {
    for (std::size_t i = first; i <= last; ++i) {
      hops[i]->held = std::max(hops[i]->held, reply.position + reply.count);
    }
  };
  std::vector<std::uint32_t> held;
  for (std::size_t i = flow.first; i < end; ++i) {
    held.push_back(hops[i]->held);
    hops[i]->held = std::min(hops[i]->held, from);
  }
  if (source) {
    auto starting = start_replay(flow);
    const bool started = co_await std::move(starting);
    if (!started) {
      if (without_history.contains(hops[*source]->address)) {  // then nothing was sent
        for (std::size_t i = flow.first; i < end; ++i) hops[i]->held = held[i - flow.first];
      }
      co_return still_open();
    }
  }
  auto streaming = stream(flow);
  const Result<void> streamed = co_await std::move(streaming);
  if (!streamed || any_lost()) co_return streamed;
  tell(ChainEvent::Kind::replayed, hops[flow.last]->address,
       {hops[flow.first]->span.begin, hops[flow.last]->span.end}, positions - from);
  co_return Result<void>();
}

/// The nearest hop before `hole` that can send [from, positions) again; nothing if none can, or
/// if one was lost in the search.
net::Task<std::optional<std::size_t>> Chain::Impl::find_source(std::size_t hole,
                                                               std::uint32_t from) {
  for (std::size_t i = hole; i-- > 0;) {
    const std::shared_ptr<Hop> hop = hops[i];
    if (without_history.contains(hop->address)) continue;
    auto asking = hop->connection->call(wire::Verb::history,
                                        wire::encode(wire::HistoryQuery{options.session}), {},
                                        now() + silence_of(*hop));
    const Result<wire::Frame> answer = co_await std::move(asking);
    if (closed || any_lost()) co_return std::nullopt;
    const Result<wire::HistoryReply> history =
        answer ? wire::decode<wire::HistoryReply>(answer->header) : answer.error();
    if (!history) {
      if (history.error().code == Errc::timeout) peers.disconnect(hop->address, history.error());
      lose(*hop, history.error());
      co_return std::nullopt;
    }
    if (history->stored_begin <= from && history->stored_end >= positions) co_return i;
  }
  co_return std::nullopt;
}

/// Asks the hop before `flow` to replay. False: it will not, or something is lost; begin again.
net::Task<bool> Chain::Impl::start_replay(const Flow& flow) {
  const std::shared_ptr<Hop> source = hops[flow.first - 1];
  wire::Replay replay;
  replay.session = options.session;
  replay.epoch = epoch;
  replay.from = flow.from;
  replay.to = flow.to;
  for (std::size_t i = flow.first; i <= flow.last; ++i) {
    replay.route.push_back({hops[i]->address, hops[i]->span});
  }
  const TimePoint deadline = now() + silence_of(*source);
  Error error;
  do {
    auto asking = source->connection->call(wire::Verb::replay, wire::encode(replay), {}, deadline);
    const Result<wire::Frame> answer = co_await std::move(asking);
    if (closed || any_lost()) co_return false;
    if (answer) co_return true;
    error = answer.error();
    if (error.code != Errc::busy) break;
    auto pausing = pause(kReplayPause);  // an earlier replay, to a hop that is gone, is ending
    co_await std::move(pausing);
    if (closed || any_lost()) co_return false;
  } while (now() < deadline);
  if (error.code == Errc::invalid_argument || error.code == Errc::position_gap ||
      error.code == Errc::busy) {
    without_history.insert(source->address);  // it was cut since the hop was asked
    co_return false;
  }
  if (error.code == Errc::timeout) peers.disconnect(source->address, error);
  lose(*source, error);
  co_return false;
}

}  // namespace farmesh::driver
