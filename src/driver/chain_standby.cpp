// Spare caches: a peer behind a hop that gets copies of its inputs, for a session that pays for
// that or for a hop that is slow just now; and routes that have become faster than the present.

#include <algorithm>

#include "driver/chain_impl.hpp"
#include "route/replan.hpp"
#include "wire/row_codec.hpp"

namespace farmesh::driver {
namespace {

constexpr std::chrono::seconds kStandbyPause{5};   // between two tries behind one hop
constexpr std::chrono::seconds kFillPatience{60};  // for a spare's next rows, while it is filled
constexpr std::chrono::milliseconds kFillPause{20};
constexpr std::uint32_t kFewRows = 8;      // a gap that may be closed between two steps
constexpr std::uint32_t kInputRows = 256;  // sent to a spare of the first hop at once

}  // namespace

// --- who -----------------------------------------------------------------------------------

Standby* Chain::Impl::find_standby(const std::string& address) {
  for (const auto& hop : hops) {
    if (hop->standby && hop->standby->address == address) return hop->standby.get();
  }
  return nullptr;
}

/// The best peer that could take a hop's place whole; nothing if there is none.
std::optional<std::string> Chain::Impl::spare_for(const Hop& hop) const {
  std::vector<route::PeerView> views = candidates();
  std::erase_if(views, [&](const route::PeerView& view) {
    const bool used = std::any_of(hops.begin(), hops.end(), [&](const auto& other) {
      return other->address == view.address ||
             (other->standby && other->standby->address == view.address);
    });
    return used || view.banned || !view.reachable_by_peers || !view.span.contains(hop.span) ||
           view.numerics_class != numerics_class;
  });
  const route::PeerView* best = nullptr;
  Duration least{};
  for (const route::PeerView& view : views) {
    const Duration time =
        route::expected_time(views, {{view.address, hop.span, {}}}, options.policy);
    if (best != nullptr && time >= least) continue;
    best = &view;
    least = time;
  }
  if (best == nullptr) return std::nullopt;
  return best->address;
}

// --- kept warm -------------------------------------------------------------------------------

/// Between two steps: every hop of a session that wants it has a spare, or one on its way; spares
/// made for hops that were slow are let go.
void Chain::Impl::keep_standbys() {
  for (const auto& hop : hops) {
    const std::shared_ptr<Standby> standby = hop->standby;
    if (standby && (standby->failed || (standby->hedge && !options.warm_standby))) {
      drop_standby(*hop);
    }
    if (!options.warm_standby) continue;
    if (!hop->standby) {
      if (now() >= hop->standby_tried + kStandbyPause) add_standby(hop, false);
    } else if (hop->standby->opened && !hop->standby->filling && !hop->standby->copies &&
               hop->standby->held + kFewRows < positions) {
      hop->standby->filling = true;
      net::spawn(peers.clock().executor(), "driver standby",
                 fill(shared_from_this(), hop, hop->standby));
    }
  }
}

/// Between two steps, when nothing is under way: closes the last gap of spares that are almost
/// warm, so that the next step and all after it can be copied to them.
net::Task<void> Chain::Impl::catch_up() {
  if (!options.warm_standby) co_return;
  for (const std::shared_ptr<Hop>& hop : std::vector(hops)) {
    const std::shared_ptr<Standby> standby = hop->standby;
    const auto is_near = [&] {
      return hop->standby == standby && standby->opened && !standby->filling && !standby->copies &&
             !standby->failed && standby->held + kFewRows >= positions;
    };
    if (closed || any_lost() || !standby || !is_near()) continue;
    if (standby->held < positions) {
      auto replaying = replay_to(hop, *standby);
      const bool well = co_await std::move(replaying);
      if (!well) standby->failed = true;
    }
    if (closed || !is_near() || standby->held != positions) continue;
    standby->copies = true;
    tell(ChainEvent::Kind::standby, standby->address, hop->span);
  }
}

bool Chain::Impl::add_standby(const std::shared_ptr<Hop>& hop, bool hedge) {
  const std::optional<std::string> address = spare_for(*hop);
  if (!address && now() >= hop->standby_tried + kStandbyPause) {
    net::spawn(peers.clock().executor(), "driver standby", look_around(shared_from_this()));
  }
  hop->standby_tried = now();
  if (!address) return false;
  hop->standby = std::make_shared<Standby>();
  hop->standby->address = *address;
  hop->standby->span = hop->span;
  hop->standby->hedge = hedge;
  hop->standby->filling = true;
  net::spawn(peers.clock().executor(), "driver standby",
             fill(shared_from_this(), hop, hop->standby));
  return true;
}

/// Dials whom it is not connected to: one of them may be a spare.
net::Task<void> Chain::Impl::look_around(Self self) {
  auto dialling = self->peers.connect_all(self->now() + self->peers.options().dial_timeout);
  co_await std::move(dialling);
}

/// Opens the session on the spare and brings it to the committed positions.
net::Task<void> Chain::Impl::fill(Self self, std::shared_ptr<Hop> hop,
                                  std::shared_ptr<Standby> standby) {
  Impl& chain = *self;
  bool well = true;
  if (!standby->opened) {
    auto opening = chain.open_standby(*standby);
    well = co_await std::move(opening);
  }
  const auto wanted = [&] { return !chain.closed && hop->standby == standby && !standby->failed; };
  while (well && wanted() && standby->held < chain.positions) {
    auto replaying = chain.replay_to(hop, *standby);
    well = co_await std::move(replaying);
    if (chain.positions - std::min(standby->held, chain.positions) <= kFewRows && !standby->hedge)
      break;  // the rest comes between two steps
  }
  standby->filling = false;
  if (!well) standby->failed = true;
  if (!wanted()) {
    // It was given up meanwhile: what was opened since is closed, unless it serves as a hop.
    if (hop->standby != standby && (chain.closed || chain.find(standby->address) == nullptr)) {
      chain.close_session_on(standby->connection);
    }
  }
  chain.changed.set();
}

net::Task<bool> Chain::Impl::open_standby(Standby& standby) {
  const TimePoint deadline = now() + peers.options().dial_timeout;
  auto connecting = peers.connection(standby.address, deadline, any_class);
  const Result<std::shared_ptr<net::Connection>> connection = co_await std::move(connecting);
  if (closed || !connection) co_return false;
  standby.connection = *connection;
  const wire::Open open = open_message(*standby.connection, standby.span);
  auto asking = standby.connection->call(wire::Verb::open, wire::encode(open), {}, deadline);
  const Result<wire::Frame> answer = co_await std::move(asking);
  if (closed || !answer) co_return false;
  const auto reply = wire::decode<wire::OpenReply>(answer->header);
  if (!reply || reply->activations != options.activations) co_return false;
  standby.held = std::min(reply->held_positions, positions);
  standby.max_step_rows = std::max(reply->max_step_rows, 1u);
  standby.window_steps = reply->window_steps;
  standby.tally = tally_of(standby.connection, standby.span);
  standby.opened = true;
  co_return true;
}

/// Has the hop before send again what the spare lacks, or sends the inputs itself.
net::Task<bool> Chain::Impl::replay_to(const std::shared_ptr<Hop>& hop, Standby& standby) {
  const std::uint32_t to = positions;
  const auto at = std::find(hops.begin(), hops.end(), hop);
  if (at == hops.end()) co_return false;
  if (at == hops.begin()) {
    auto sending = send_inputs_to(standby, to);
    const bool sent = co_await std::move(sending);
    if (!sent) co_return false;
  } else {
    const std::shared_ptr<Hop> source = *(at - 1);
    if (source->needs_open || source->lost) co_return false;  // it is being replaced just now
    wire::Replay replay;
    replay.session = options.session;
    replay.epoch = epoch;
    replay.from = standby.held;
    replay.to = to;
    replay.route.push_back({standby.address, standby.span, {}});
    auto asking = source->connection->call(wire::Verb::replay, wire::encode(replay), {},
                                           now() + silence_of(*source));
    const Result<wire::Frame> answer = co_await std::move(asking);
    if (!answer) co_return false;
  }
  std::uint32_t held = standby.held;
  TimePoint deadline = now() + kFillPatience;
  while (!closed && !standby.failed && standby.held < to && now() < deadline) {
    changed.reset();
    co_await changed.wait(now() + kFillPause);
    if (standby.held > held) deadline = now() + kFillPatience;
    held = standby.held;
  }
  co_return !closed && standby.held >= to;
}

net::Task<bool> Chain::Impl::send_inputs_to(Standby& standby, std::uint32_t to) {
  for (std::uint32_t from = standby.held; from < to;) {
    const std::uint32_t count = std::min({to - from, kInputRows, standby.max_step_rows});
    auto making = inputs(from, count);
    Result<Payload> rows = co_await std::move(making);
    if (closed || !rows || !standby.connection->is_open()) co_return false;
    Result<Payload> payload = as_sent(*std::move(rows));
    if (!payload) co_return false;
    wire::Step step;
    step.session = options.session;
    step.epoch = epoch;
    step.position = from;
    step.count = count;
    step.dtype = wire::travelling_dtype(options.activations, options.residual);
    step.want = wire::Want::nothing;
    step.replay = true;
    wire::Frame frame;
    frame.verb = wire::Verb::step;
    frame.header = wire::encode(step);
    frame.payload = *std::move(payload);
    if (!standby.connection->push(std::move(frame))) co_return false;
    from += count;
  }
  co_return true;
}

/// The first hop's inputs come from here, and so do its spare's.
void Chain::Impl::copy_to_standby(const wire::Frame& frame, const wire::Step& step) {
  const std::shared_ptr<Standby> standby = hops.front()->standby;
  if (!standby || !standby->copies || standby->failed) return;
  wire::Step copy = step;
  copy.route.clear();
  copy.want = wire::Want::nothing;
  copy.standby = true;
  wire::Frame sent = frame;
  sent.header = wire::encode(copy);
  if (!standby->connection->push(std::move(sent))) standby->failed = true;
}

/// True when the reply was a spare's, and not one of the rows that a step waits for.
bool Chain::Impl::take_standby_reply(const std::string& address, const wire::StepReply& message) {
  Standby* standby = find_standby(address);
  if (standby == nullptr) return message.standby;
  if (message.position <= standby->held) {
    standby->held = std::max(standby->held, message.position + message.count);
  }
  changed.set();
  return true;
}

void Chain::Impl::drop_standby(Hop& hop) {
  const std::shared_ptr<Standby> standby = std::exchange(hop.standby, nullptr);
  if (!standby || standby->filling) return;  // fill() closes what it has opened
  close_session_on(standby->connection);
}

void Chain::Impl::drop_standby_at(const std::string& address) {
  for (const auto& hop : hops) {
    if (!hop->standby || hop->standby->address != address) continue;
    hop->standby->failed = true;
    hop->standby_tried = now();
    drop_standby(*hop);
  }
}

/// Puts a lost hop's spare in its place; what it lacks is replayed like any other gap.
bool Chain::Impl::take_over(std::shared_ptr<Hop>& hop) {
  const std::shared_ptr<Standby> standby = hop->standby;
  if (!standby || !standby->opened || standby->failed || standby->filling) return false;
  if (!standby->connection->is_open() || find(standby->address) != nullptr) return false;
  const std::shared_ptr<Hop> spare = new_hop(standby->address, standby->span);
  spare->connection = standby->connection;
  spare->needs_open = false;
  spare->held = std::min(standby->held, positions);
  spare->max_step_rows = standby->max_step_rows;
  spare->window_steps = standby->window_steps;
  spare->tally = standby->tally;
  hop->standby = nullptr;
  hop = spare;
  tell(ChainEvent::Kind::replaced, spare->address, spare->span);
  return true;
}

// --- better routes ---------------------------------------------------------------------------

/// Between two steps, now and then: takes a route that is faster by enough to pay for the replay.
void Chain::Impl::consider_moving() {
  if (options.expected_tokens == 0 || now() < next_move || positions == 0) return;
  const bool first = next_move == TimePoint{};
  next_move = now() + options.replan_interval;
  peers.refresh(options.replan_interval);
  if (first) return;  // a fresh route was planned a moment ago
  std::vector<route::PeerView> views = candidates();
  route::Policy policy = options.policy;
  policy.numerics_class = numerics_class;
  policy.session_tokens = 0;
  for (const route::PeerView& view : views) {
    // A stranger is not moved to for its unknown speed: it counts as no faster than the slowest.
    if (find(view.address) == nullptr) continue;
    policy.unknown_layer_time =
        std::max(policy.unknown_layer_time, route::expected_layer_time(view, policy));
  }
  for (route::PeerView& view : views) {
    // Our own rows are among those that wait at our hops.
    if (find(view.address) != nullptr && view.queued_rows > 0) --view.queued_rows;
  }
  std::erase_if(views, [&](const route::PeerView& view) {
    return find(view.address) == nullptr && view.load_age <= policy.load_lifetime &&
           view.free_tokens < options.max_positions;
  });
  const Result<route::Route> proposed = route::plan(views, {0, options.num_layers}, policy);
  if (!proposed) return;
  route::Route present;
  for (const auto& hop : hops) present.push_back({hop->address, hop->span, {}});
  route::Move move;
  move.present = route::expected_time(views, present, policy);
  move.proposed = route::expected_time(views, *proposed, policy);
  move.cost = route::expected_move(views, present, *proposed, positions, policy, options.replan);
  move.tokens_left = options.expected_tokens;
  if (!route::pays(move, options.replan)) return;
  std::vector<std::shared_ptr<Hop>> route;
  for (const wire::Hop& wanted : *proposed) {
    const auto same = std::find_if(hops.begin(), hops.end(), [&](const auto& hop) {
      return hop->address == wanted.address && hop->span == wanted.span;
    });
    route.push_back(same != hops.end() ? *same : new_hop(wanted.address, wanted.span));
  }
  take_route(std::move(route));
  ++moves;
  ++epoch;
  needs_new_epoch = true;
  new_range = true;
  replies.clear();
  tell(ChainEvent::Kind::moved, hops.front()->address, {0, options.num_layers});
}

}  // namespace farmesh::driver
