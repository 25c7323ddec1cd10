// Rows: in, on to the next stage, back to the driver, and again for a stage that was lost.

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "serve/peer_impl.hpp"
#include "wire/row_codec.hpp"

namespace farmesh::serve {
namespace {

using wire::Frame;
using wire::Verb;

// Replayed rows are joined to steps of at most this many; single rows would take a pass each.
constexpr std::uint32_t kReplayRows = 256;
// Rows pushed so shortly before a link broke may not have arrived: breaks take time to notice.
constexpr std::chrono::seconds kMayBeLost{30};

wire::ErrorMessage error_about(const SessionId& session, const Error& error, std::uint32_t epoch,
                               std::uint32_t position) {
  wire::ErrorMessage message;
  message.code = error.code;
  message.detail = error.detail;
  message.about_session = true;
  message.session = session;
  message.epoch = epoch;
  message.position = position;
  return message;
}

Frame push_frame(Verb verb, wire::HeaderBytes header, Payload payload = {}) {
  Frame frame;
  frame.verb = verb;
  frame.header = std::move(header);
  frame.payload = std::move(payload);
  return frame;
}

/// As the stage after this one gets it.
wire::Step handed_on(wire::Step step) {
  step.route.erase(step.route.begin());
  return step;
}

/// As that stage's standby gets it.
wire::Step copied(const wire::Step& step) {
  wire::Step copy = step;
  copy.route.clear();
  copy.want = wire::Want::nothing;
  copy.standby = true;
  return copy;
}

/// The last of `rows` that the step's driver wants, perhaps none.
Payload wanted_rows(const wire::Step& step, const Payload& rows) {
  if (step.replay || step.want == wire::Want::nothing) return {};
  if (step.want == wire::Want::all_rows) return rows;
  const std::size_t row_bytes = rows.size() / step.count;
  return rows.slice(rows.size() - row_bytes, row_bytes);
}

}  // namespace

// --- in --------------------------------------------------------------------------------------

void Peer::Impl::step(const ConnectionPtr& connection, const Frame& frame, wire::Step message) {
  Session* session = find(message.session);
  if (session == nullptr) {
    // Whoever pushed it here tells its driver; this peer knows none.
    const auto unknown =
        error_about(message.session, {Errc::session_unknown, {}}, message.epoch, message.position);
    static_cast<void>(connection->push(push_frame(Verb::error, wire::encode(unknown))));
    return;
  }
  StepWork work;
  work.session = message.session;
  work.epoch = message.epoch;
  work.position = message.position;
  work.count = message.count;
  work.replay = message.replay;
  work.groups = message.groups;
  if (!message.times.empty()) work.batch_rows = message.times.back().batch_rows;
  if (message.budget_ms > 0) {
    work.deadline = clock.now() + std::chrono::milliseconds(message.budget_ms);
  }
  Result<void> queued;
  if (message.dtype != travelling(*session)) {
    queued = Error{Errc::bad_shape,
                   "this session's rows travel in " + std::string(name(travelling(*session)))};
  } else if (message.times.size() >= wire::kMaxHops) {
    queued = Error{Errc::invalid_argument, "more stages than a route may have"};
  } else if (const Result<void> allowed = may_compute(*session, message); !allowed) {
    queued = allowed;
  } else if (Result<Payload> rows = received(*session, message, frame.payload); !rows) {
    queued = rows.error();
  } else {
    work.input = *std::move(rows);
    queued =
        worker.step(std::move(work), [weak = weak_from_this(), message](Result<StepOutput> result) {
          if (const auto self = weak.lock()) self->computed(message, std::move(result));
        });
  }
  if (!queued) {
    return tell_driver(
        *session, error_about(message.session, queued.error(), message.epoch, message.position));
  }
  session->epoch = message.epoch;
  history.truncate(message.session, message.position);
}

DType Peer::Impl::travelling(const Session& session) const noexcept {
  return wire::travelling_dtype(session.activations, worker.info().residual);
}

/// A step's rows as the worker takes them.
Result<Payload> Peer::Impl::received(const Session& session, const wire::Step& step,
                                     const Payload& rows) const {
  if (session.activations == Activations::residual) return rows;
  const model::EngineInfo& info = worker.info();
  return wire::unpack_rows(rows.view(), step.count, info.hidden_size, info.residual);
}

/// By its grant, or by what its driver may have for nothing.
Result<void> Peer::Impl::may_compute(const Session& session, const wire::Step& step) {
  if (session.count) return meter.allow(session.count, step);
  const ConnectionPtr driver = session.driver.lock();
  if (!driver || !is_bounded(driver->remote().node_id)) return {};
  return shares.spend(driver->remote().node_id, step.count, clock.now());
}

// --- out -------------------------------------------------------------------------------------

/// What a worker made, as it travels on.
Result<Payload> Peer::Impl::to_send(const Session& session, Payload rows) const {
  if (session.activations == Activations::residual) return rows;
  const model::EngineInfo& info = worker.info();
  Result<Payload> packed = wire::pack_rows(rows.view(), info.hidden_size, info.residual);
  if (!packed) return {Errc::compute_failed, packed.error().detail};
  return packed;
}

void Peer::Impl::computed(const wire::Step& step, Result<StepOutput> result) {
  Session* session = find(step.session);
  if (session == nullptr) return;
  if (!result) {
    const Errc code = result.error().code;
    if (code == Errc::stale_epoch || code == Errc::cancelled) return;  // as the driver wanted
    return tell_driver(*session,
                       error_about(step.session, result.error(), step.epoch, step.position));
  }
  ++stats.steps;
  stats.rows += step.count;
  // The last stage of the model has none after it that could be lost.
  const bool keeps = options.num_layers == 0 || session->span.end < options.num_layers;
  const std::uint32_t end = step.position + step.count;
  const bool holds = worker.positions(step.session).value_or(0) >= end;
  // Rows that neither stay here nor go on are not made ready to travel.
  const bool all = (keeps && holds) || !step.route.empty();
  Result<Payload> rows = to_send(*session, all ? result->rows : wanted_rows(step, result->rows));
  if (!rows) {
    return tell_driver(*session,
                       error_about(step.session, rows.error(), step.epoch, step.position));
  }
  if (keeps && holds) history.append(step.session, {step.position, step.count, *rows});
  const bool overtaken = step.epoch < session->epoch;  // on its way out
  meter.add(session->count, step, /*passed_on=*/!overtaken, clock.now());
  if (overtaken) return;

  wire::Step done = step;
  done.times.push_back(result->time);
  if (done.route.empty()) {
    done.next_us.push_back(0);
    answer(*session, done, all ? wanted_rows(step, *rows) : *std::move(rows));
  } else {
    const auto round_trip = outlets->round_trip(done.route.front().address);
    done.next_us.push_back(static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(round_trip).count()));
    push(*session, std::move(done), *std::move(rows));
  }
  // Last, when nobody waits for this peer.
  if (const auto receipt = meter.due(session->count, clock.now())) {
    if (const ConnectionPtr driver = session->driver.lock()) send_receipt(driver, *receipt);
  }
}

/// `rows`: those that the driver wants.
void Peer::Impl::answer(const Session& session, const wire::Step& step, Payload rows) {
  wire::StepReply reply;
  reply.session = step.session;
  reply.epoch = step.epoch;
  reply.position = step.position;
  reply.count = step.count;
  reply.dtype = step.dtype;
  reply.replay = step.replay;
  reply.times = step.times;
  reply.next_us = step.next_us;
  reply.standby = step.standby;
  if (!rows.empty()) reply.rows = step.want == wire::Want::all_rows ? step.count : 1;
  const ConnectionPtr driver = session.driver.lock();
  if (!driver) return;
  Frame frame = push_frame(Verb::step, wire::encode(reply), std::move(rows));
  frame.reply = true;
  const Result<void> sent = driver->push(std::move(frame));
  // A driver that reads nothing would otherwise wait for ever for what it did not read.
  if (!sent) driver->fail(sent.error());
}

void Peer::Impl::push(Session& session, wire::Step step, Payload rows) {
  const std::string address = step.route.front().address;
  session.next_hop = address;
  session.pushed_position = step.position;
  session.pushed_at = clock.now();
  stats.forwarded_bytes += rows.size();
  Outlets::Parcel parcel;
  parcel.session = step.session;
  parcel.epoch = step.epoch;
  parcel.position = step.position;
  const std::string standby = step.route.front().standby;
  if (!standby.empty() && standby != address) {
    stats.forwarded_bytes += rows.size();
    Outlets::Parcel copy = parcel;
    copy.frame = push_frame(Verb::step, wire::encode(copied(step)), rows);
    outlets->send(standby, std::move(copy));
  }
  parcel.frame = push_frame(Verb::step, wire::encode(handed_on(std::move(step))), std::move(rows));
  outlets->send(address, std::move(parcel));
}

// --- again -----------------------------------------------------------------------------------

void Peer::Impl::replay(const ConnectionPtr& connection, const Frame& request,
                        const wire::Replay& message) {
  const Result<void> allowed = may_replay(message);
  if (!allowed) {
    static_cast<void>(connection->reply_error(request, allowed.error()));
    return;
  }
  static_cast<void>(connection->reply(request, Verb::replay, {}));
  send_replay(*find(message.session), message);
}

Result<void> Peer::Impl::may_replay(const wire::Replay& message) {
  const Session* session = find(message.session);
  if (session == nullptr) return Errc::session_unknown;
  if (message.route.empty()) return {Errc::invalid_argument, "no stage to replay to"};
  if (!session->replay.expired()) return {Errc::busy, "another replay is still being sent"};
  const History::Range stored = history.stored(message.session);
  if (message.from < stored.begin || message.to > stored.end) {
    return {Errc::position_gap, "positions " + std::to_string(stored.begin) + " to " +
                                    std::to_string(stored.end) + " are stored"};
  }
  // Takes the epoch over, and with it whatever is still queued for the stage that was lost.
  return worker.truncate({message.session, message.epoch, wire::kMaxPosition});
}

void Peer::Impl::send_replay(Session& session, const wire::Replay& message) {
  const auto ticket = std::make_shared<int>();
  session.epoch = message.epoch;
  session.replay = ticket;
  const model::EngineInfo& info = worker.info();
  const std::size_t row_bytes = info.hidden_size * bytes_of(info.residual);
  const auto most = static_cast<std::uint32_t>(
      std::clamp<std::size_t>(wire::kMaxPayloadBytes / row_bytes, 1, kReplayRows));
  for (std::uint32_t from = message.from; from < message.to;) {
    wire::Step step;
    step.session = message.session;
    step.epoch = message.epoch;
    step.position = from;
    step.count = std::min(most, message.to - from);
    step.dtype = travelling(session);
    step.want = wire::Want::nothing;
    step.replay = true;
    step.route = message.route;
    Outlets::Parcel parcel;
    parcel.session = step.session;
    parcel.epoch = step.epoch;
    parcel.position = from;
    for (History::Part& part : history.parts(message.session, from, from + step.count)) {
      stats.forwarded_bytes += part.rows.size();
      parcel.parts.push_back(std::move(part.rows));
    }
    parcel.ticket = ticket;
    from += step.count;
    session.pushed_position = step.position;
    parcel.frame = push_frame(Verb::step, wire::encode(handed_on(std::move(step))));
    session.next_hop = message.route.front().address;
    session.pushed_at = clock.now();
    outlets->send(session.next_hop, std::move(parcel));
  }
}

// --- what does not arrive --------------------------------------------------------------------

void Peer::Impl::undelivered(const std::string& address, const Outlets::Parcel& parcel,
                             const Error& error) {
  const Session* session = find(parcel.session);
  if (session == nullptr || parcel.epoch < session->epoch) return;
  const Error lost{Errc::next_hop_lost, error.to_string()};
  wire::ErrorMessage message = error_about(parcel.session, lost, parcel.epoch, parcel.position);
  message.hop = address;
  tell_driver(*session, std::move(message));
}

void Peer::Impl::next_hop_lost(const std::string& address, const Error& error) {
  for (const auto& [id, session] : sessions) {
    if (session.next_hop != address || session.pushed_at + kMayBeLost < clock.now()) continue;
    const Error lost{Errc::next_hop_lost, error.to_string()};
    wire::ErrorMessage message = error_about(id, lost, session.epoch, session.pushed_position);
    message.hop = address;
    tell_driver(session, std::move(message));
  }
}

/// The next peer does not know the session, and so not its driver either.
void Peer::Impl::told_by_next_hop(const std::string& address, const Frame& frame) {
  const auto told = wire::decode<wire::ErrorMessage>(frame.header);
  if (!told || !told->about_session) return;
  const Session* session = find(told->session);
  if (session == nullptr || session->next_hop != address || told->epoch < session->epoch) return;
  const Error lost{Errc::next_hop_lost, Error{told->code, told->detail}.to_string()};
  wire::ErrorMessage message = error_about(told->session, lost, told->epoch, told->position);
  message.hop = address;
  tell_driver(*session, std::move(message));
}

void Peer::Impl::tell_driver(const Session& session, wire::ErrorMessage message) {
  const ConnectionPtr driver = session.driver.lock();
  if (!driver) return;
  const Result<void> sent = driver->push(push_frame(Verb::error, wire::encode(message)));
  if (!sent) driver->fail(sent.error());
}

}  // namespace farmesh::serve
