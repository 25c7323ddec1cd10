#include "driver/chain.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "driver/chain_impl.hpp"

namespace farmesh::driver {
namespace {

/// One run of memory out of the rows of several replies.
Payload joined(std::vector<Payload> parts) {
  if (parts.size() == 1) return std::move(parts.front());
  std::size_t size = 0;
  for (const Payload& part : parts) size += part.size();
  AlignedBuffer whole(size);
  std::size_t offset = 0;
  for (const Payload& part : parts) {
    std::memcpy(whole.data() + offset, part.view().data(), part.size());
    offset += part.size();
  }
  return Payload(std::move(whole));
}

}  // namespace

Chain::Impl::Impl(PeerSet& p, Inputs i, ChainOptions o, std::function<void(const ChainEvent&)> e)
    : peers(p),
      inputs(std::move(i)),
      options(std::move(o)),
      on_event(std::move(e)),
      patience({options.first_patience, options.min_patience, options.patience_factor}),
      changed(p.clock()),
      epoch(options.first_epoch) {}

// --- what peers tell -----------------------------------------------------------------------

void Chain::Impl::on_frame(const std::string& address, wire::Frame frame) {
  if (closed || frame.stream != 0) return;
  if (frame.verb == wire::Verb::error) {
    const auto message = wire::decode<wire::ErrorMessage>(frame.header);
    if (message) on_error(address, *message);
    return;
  }
  auto message = wire::decode<wire::StepReply>(frame.header);
  if (!message || message->epoch != epoch) return;  // an echo of an abandoned try
  if (take_standby_reply(address, *message)) return;
  replies.push_back({address, std::move(*message), std::move(frame.payload), now()});
  changed.set();
}

void Chain::Impl::on_error(const std::string& address, const wire::ErrorMessage& message) {
  if (message.epoch != epoch) return;
  const auto at = [this](const std::string& wanted) {
    return std::find_if(hops.begin(), hops.end(),
                        [&](const auto& hop) { return hop->address == wanted; });
  };
  const auto hop = at(address);
  if (hop == hops.end()) return drop_standby_at(address);
  if (message.code == Errc::next_hop_lost && find_standby(message.hop) != nullptr) {
    return drop_standby_at(message.hop);
  }
  // A link between two hops ended after the rows on it had arrived.
  const bool harmless = !replaying && message.position < positions;
  if (message.code == Errc::next_hop_lost && harmless) return;
  Error error{message.code, address + ": " + message.detail};
  const auto receiver = at(message.hop);
  if (message.code == Errc::next_hop_lost && receiver != hops.end()) {
    lose_between(static_cast<std::size_t>(hop - hops.begin()),
                 static_cast<std::size_t>(receiver - hops.begin()), std::move(error));
  } else {
    lose(**hop, std::move(error));
  }
}

void Chain::Impl::on_peer_lost(const std::string& address, const Error& error) {
  for (auto& [sender, receivers] : cut_off) receivers.erase(address);  // it was not the link
  drop_standby_at(address);
  if (Hop* hop = find(address)) lose(*hop, {error.code, address + ": " + error.detail});
}

// --- hops ----------------------------------------------------------------------------------

Hop* Chain::Impl::find(const std::string& address) {
  for (const auto& hop : hops) {
    if (hop->address == address) return hop.get();
  }
  return nullptr;
}

void Chain::Impl::lose(Hop& hop, Error error) {
  if (hop.lost) return;
  hop.lost = std::move(error);
  changed.set();
}

/// Rows do not get from one hop to the next, though both may be alive. The receiver goes first;
/// a sender that reaches no second receiver either goes instead of it.
void Chain::Impl::lose_between(std::size_t sender, std::size_t receiver, Error error) {
  if (hops[receiver]->lost) return;
  std::set<std::string>& unreached = cut_off[hops[sender]->address];
  unreached.insert(hops[receiver]->address);
  lose(unreached.size() > 1 ? *hops[sender] : *hops[receiver], std::move(error));
}

bool Chain::Impl::any_lost() const {
  return std::any_of(hops.begin(), hops.end(),
                     [](const auto& hop) { return hop->lost.has_value(); });
}

bool Chain::Impl::sound() const {
  std::uint32_t layer = 0;
  for (const auto& hop : hops) {
    if (hop->lost || hop->needs_open || hop->held < positions || hop->span.begin != layer) {
      return false;
    }
    layer = hop->span.end;
  }
  return layer == options.num_layers;
}

void Chain::Impl::tell(ChainEvent::Kind kind, const std::string& address, Span span,
                       std::uint32_t replayed) const {
  if (on_event) on_event({kind, address, span, replayed});
}

Result<void> Chain::Impl::still_open() const {
  if (closed) return {Errc::cancelled, "the session was closed"};
  return {};
}

net::Task<void> Chain::Impl::pause(Duration duration) {
  const TimePoint end = now() + duration;
  while (!closed && now() < end) {
    changed.reset();
    co_await changed.wait(end);
  }
}

// --- verbs ---------------------------------------------------------------------------------

net::Task<Result<std::uint32_t>> Chain::Impl::open(Self self) {
  if (self->closed) co_return self->still_open().error();
  self->peers.register_session(self->options.session, self);
  if (self->options.bill) self->peers.register_bill(self->options.bill);
  self->last_progress = self->now();
  auto establishing = self->establish();
  const Result<void> done = co_await std::move(establishing);
  if (!done) co_return done.error();
  co_return self->positions;
}

net::Task<Result<void>> Chain::Impl::extend(Self self, std::uint32_t max_positions,
                                            std::vector<PageName> page_names) {
  if (self->closed) co_return self->still_open();
  self->options.max_positions = std::max(self->options.max_positions, max_positions);
  self->options.page_names = std::move(page_names);
  for (const auto& hop : self->hops) hop->needs_open = true;
  self->last_progress = self->now();
  auto establishing = self->establish();
  const Result<void> done = co_await std::move(establishing);
  co_return done;
}

net::Task<Result<Payload>> Chain::Impl::step(Self self, std::uint32_t from, std::uint32_t count,
                                             wire::Want want) {
  Impl& chain = *self;
  FARMESH_ASSERT(count > 0 && from <= chain.positions);
  if (chain.closed) co_return chain.still_open().error();
  if (from > chain.options.max_positions || count > chain.options.max_positions - from) {
    co_return Error{
        Errc::context_exceeded,
        "the session promised " + std::to_string(chain.options.max_positions) + " positions"};
  }
  if (from < chain.positions) {
    chain.positions = from;
    chain.needs_new_epoch = true;
    chain.new_range = true;
  }
  chain.last_progress = chain.now();
  for (auto& [address, standing] : chain.standings) standing.faults = 0;
  chain.answered.clear();
  chain.guessing = want == wire::Want::all_rows;
  std::vector<Payload> parts;
  while (chain.positions < from + count) {
    if (chain.sound()) {
      chain.consider_moving();
      chain.keep_standbys();
      auto catching_up = chain.catch_up();
      co_await std::move(catching_up);
      if (chain.closed) co_return chain.still_open().error();
    }
    if (!chain.sound()) {
      auto establishing = chain.establish();
      const Result<void> repaired = co_await std::move(establishing);
      if (!repaired) co_return repaired.error();
    }
    auto advancing = chain.advance(from + count, want, parts);
    const Result<void> advanced = co_await std::move(advancing);
    if (!advanced) co_return advanced.error();
  }
  co_return joined(std::move(parts));
}

/// Runs rows [positions, to) through all hops. Success with fewer positions: a hop was lost.
net::Task<Result<void>> Chain::Impl::advance(std::uint32_t to, wire::Want want,
                                             std::vector<Payload>& parts) {
  if (needs_new_epoch) {
    ++epoch;  // makes hops that hold more forget it
    replies.clear();
  }
  needs_new_epoch = true;  // until all that is sent has come back
  replaying = false;
  for (const auto& hop : hops) {
    // What a spare holds beyond may be of a try that was given up.
    if (hop->standby) hop->standby->held = std::min(hop->standby->held, positions);
  }
  Flow flow;
  flow.from = positions;
  flow.to = to;
  flow.last = hops.size() - 1;
  flow.want = want;
  flow.on_rows = [this, &parts](const wire::StepReply& reply, Payload rows) {
    commit(reply);
    if (reply.rows > 0) parts.push_back(std::move(rows));
  };
  auto streaming = stream(std::move(flow));
  const Result<void> streamed = co_await std::move(streaming);
  if (positions == to) needs_new_epoch = false;
  co_return streamed;
}

void Chain::Impl::commit(const wire::StepReply& reply) {
  if (new_range) {
    CommittedRows range{positions, positions, {}};
    for (const auto& hop : hops) range.route.push_back({hop->address, hop->span});
    committed.push_back(std::move(range));
    new_range = false;
  }
  const std::uint32_t prompt_rows =
      std::min(positions + reply.count, std::max(positions, options.prompt_positions)) - positions;
  positions += reply.count;
  last_progress = now();
  for (auto& [address, standing] : standings) standing.faults = 0;
  committed.back().end = positions;
  for (const auto& hop : hops) {
    hop->held = positions;
    if (hop->tally != nullptr) hop->tally->add(prompt_rows, reply.rows);
  }
  if (!guessing) return;
  Answered& rows = answered.emplace_back(Answered{positions, reply.rows, {}});
  for (const auto& hop : hops) {
    if (hop->tally != nullptr) rows.tallies.push_back(hop->tally);
  }
}

void Chain::Impl::reject(std::uint32_t position) {
  if (closed || position >= positions) return;
  for (Answered& rows : answered) {
    const std::uint32_t lost = std::min(rows.end - std::min(rows.end, position), rows.rows);
    for (Bill::Tally* tally : rows.tallies) tally->take_back(lost);
    rows.rows -= lost;
    rows.end -= lost;
  }
  while (!committed.empty() && committed.back().end > position) {
    committed.back().end = std::max(position, committed.back().begin);
    if (committed.back().begin < position) break;
    committed.pop_back();
    new_range = true;
  }
  positions = position;
  needs_new_epoch = true;
}

void Chain::Impl::truncate(std::uint32_t position) {
  if (closed || position >= positions) return;
  positions = position;
  ++epoch;
  // A further epoch for the steps that follow: they travel another way than this, and must not
  // be cut off when they come first.
  needs_new_epoch = true;
  new_range = true;
  for (const auto& hop : hops) {
    if (hop->standby) hop->standby->held = std::min(hop->standby->held, position);
    if (!hop->connection) continue;
    wire::Frame frame;
    frame.verb = wire::Verb::truncate;
    frame.header = wire::encode(wire::Truncate{options.session, epoch, position});
    // A link that refuses it has ended, which is told elsewhere, or is full, and then the next
    // step's epoch truncates.
    static_cast<void>(hop->connection->push(std::move(frame)));
  }
}

void Chain::Impl::close() {
  if (closed) return;
  closed = true;
  for (const auto& hop : hops) close_on(*hop);
  peers.unregister_session(options.session);
  changed.set();
}

void Chain::Impl::close_on(Hop& hop) {
  drop_standby(hop);
  close_session_on(hop.connection);
}

void Chain::Impl::close_session_on(const std::shared_ptr<net::Connection>& connection) {
  if (!connection || !connection->is_open()) return;
  wire::Frame frame;
  frame.verb = wire::Verb::close;
  frame.header = wire::encode(wire::Close{options.session, positions});
  static_cast<void>(connection->push(std::move(frame)));  // a link that ends closes it too
}

// --- Chain ---------------------------------------------------------------------------------

Chain::Chain(PeerSet& peers, Inputs inputs, ChainOptions options,
             std::function<void(const ChainEvent&)> on_event)
    : impl_(std::make_shared<Impl>(peers, std::move(inputs), std::move(options),
                                   std::move(on_event))) {}

Chain::~Chain() { impl_->close(); }

net::Task<Result<std::uint32_t>> Chain::open() { return Impl::open(impl_); }

net::Task<Result<void>> Chain::extend(std::uint32_t max_positions,
                                      std::vector<PageName> page_names) {
  return Impl::extend(impl_, max_positions, std::move(page_names));
}

net::Task<Result<Payload>> Chain::step(std::uint32_t from, std::uint32_t count, wire::Want want) {
  return Impl::step(impl_, from, count, want);
}

void Chain::reject(std::uint32_t position) { impl_->reject(position); }
void Chain::truncate(std::uint32_t position) { impl_->truncate(position); }
void Chain::close() { impl_->close(); }

std::vector<HopReport> Chain::hops() const {
  std::vector<HopReport> reports;
  for (const auto& hop : impl_->hops) {
    HopReport report = hop->report;
    report.address = hop->address;
    report.span = hop->span;
    reports.push_back(std::move(report));
  }
  return reports;
}

const std::vector<CommittedRows>& Chain::committed() const noexcept { return impl_->committed; }
std::uint32_t Chain::positions() const noexcept { return impl_->positions; }
std::uint32_t Chain::epoch() const noexcept { return impl_->epoch; }
std::uint32_t Chain::recoveries() const noexcept { return impl_->recoveries; }
std::uint32_t Chain::moves() const noexcept { return impl_->moves; }
std::uint32_t Chain::numerics_changes() const noexcept { return impl_->numerics_changes; }
void Chain::expect(std::uint32_t tokens) noexcept { impl_->options.expected_tokens = tokens; }

}  // namespace farmesh::driver
