// Rows through hops: chunks in flight, answers checked, and patience with those that are late.

#include <algorithm>

#include "driver/chain_impl.hpp"

namespace farmesh::driver {
namespace {

// Expiries of patience, each allowing twice the time of the one before, after which a hop that
// is alive is given up: soon if it has nothing to do, as rows then got lost on their way to it.
constexpr int kStallsIdle = 2;
constexpr int kStallsBusy = 4;

constexpr std::chrono::milliseconds kFullLinkPause{10};

}  // namespace

struct Chain::Impl::Progress {
  std::uint32_t next_send = 0;
  std::uint32_t done = 0;
  std::deque<InFlight> in_flight;
  TimePoint last;  // when something was last answered, or sent after everything was
  int stalls = 0;  // expiries of patience since then
};

struct Examination {
  struct Finding {
    std::size_t hop = 0;
    std::uint32_t computed = 0;
    std::uint32_t queued_rows = 0;
  };
  std::size_t pending = 0;
  std::vector<Finding> findings;  // in order of answers
};

net::Task<Result<void>> Chain::Impl::stream(Flow flow) {
  Progress progress;
  progress.next_send = flow.from_history ? flow.to : flow.from;
  progress.done = flow.from;
  progress.last = now();
  while (progress.done < flow.to) {
    if (closed) co_return still_open();
    if (any_lost()) co_return Result<void>();
    if (!replies.empty()) {
      Reply reply = std::move(replies.front());
      replies.pop_front();
      receive(flow, progress, std::move(reply));
    } else if (progress.next_send < flow.to && progress.in_flight.size() < window(flow)) {
      auto sending = send_chunk(flow, progress);
      const Result<void> sent = co_await std::move(sending);
      if (!sent) co_return sent;
    } else {
      const std::uint32_t rows =
          flow.from_history ? options.max_chunk_rows : progress.in_flight.front().count;
      const TimePoint deadline = progress.last + patience.of(rows) * ((2 << progress.stalls) - 1);
      changed.reset();
      const bool told = co_await changed.wait(deadline);
      if (!told && !closed) {
        auto examining = examine(flow, progress);
        co_await std::move(examining);
      }
    }
  }
  co_return Result<void>();
}

std::uint32_t Chain::Impl::chunk_rows(const Flow& flow) const {
  const std::size_t row_bytes = options.hidden_size * bytes_of(options.residual);
  std::size_t rows = std::min<std::size_t>(
      {options.max_chunk_rows, wire::kMaxStepRows, wire::kMaxPayloadBytes / row_bytes});
  for (std::size_t i = flow.first; i <= flow.last; ++i) {
    rows = std::min<std::size_t>(rows, hops[i]->max_step_rows);
  }
  return std::max<std::uint32_t>(static_cast<std::uint32_t>(rows), 1);
}

std::uint32_t Chain::Impl::window(const Flow& flow) const {
  std::uint32_t steps = options.window_chunks;
  for (std::size_t i = flow.first; i <= flow.last; ++i) {
    steps = std::min(steps, hops[i]->window_steps);
  }
  return std::max(steps, 1u);
}

net::Task<Result<void>> Chain::Impl::send_chunk(const Flow& flow, Progress& progress) {
  const std::uint32_t count = std::min(chunk_rows(flow), flow.to - progress.next_send);
  auto making = inputs(progress.next_send, count);
  Result<Payload> rows = co_await std::move(making);
  if (closed) co_return still_open();
  if (!rows) co_return rows.error();
  if (any_lost()) co_return Result<void>();
  const Result<void> shape =
      wire::check_tensor(*rows, count, options.hidden_size, options.residual);
  if (!shape) co_return shape;

  const bool is_last = progress.next_send + count == flow.to;
  wire::Step step;
  step.session = options.session;
  step.epoch = epoch;
  step.position = progress.next_send;
  step.count = count;
  step.dtype = options.residual;
  step.want = flow.want == wire::Want::last_row && !is_last ? wire::Want::nothing : flow.want;
  step.replay = flow.replay;
  for (std::size_t i = 1; i <= flow.last; ++i) {
    step.route.push_back({hops[i]->address, hops[i]->span});
  }
  wire::Frame frame;
  frame.verb = wire::Verb::step;
  frame.header = wire::encode(step);
  frame.payload = std::move(*rows);
  const TimePoint give_up = now() + patience.of(count);
  Result<void> sent = hops.front()->connection->push(frame);
  while (!sent && sent.error().code == Errc::busy && now() < give_up) {  // the link is full
    auto pausing = pause(kFullLinkPause);
    co_await std::move(pausing);
    if (closed) co_return still_open();
    if (any_lost()) co_return Result<void>();
    sent = hops.front()->connection->push(frame);
  }
  if (!sent) {
    lose(*hops.front(), sent.error());
    co_return Result<void>();
  }
  if (progress.in_flight.empty()) progress.last = now();
  progress.in_flight.push_back({step.position, count, step.want, now()});
  progress.next_send += count;
  co_return Result<void>();
}

void Chain::Impl::receive(const Flow& flow, Progress& progress, Reply reply) {
  Hop& last = *hops[flow.last];
  if (reply.address != last.address) return;  // nobody asked it
  const Result<void> valid = check(flow, progress, reply);
  if (!valid) {
    lose(last, {valid.error().code, last.address + ": " + valid.error().detail});
    return;
  }
  if (!flow.from_history) {
    const TimePoint began = std::max(progress.last, progress.in_flight.front().sent);
    patience.measured(reply.message.count, reply.arrived - began);
    progress.in_flight.pop_front();
  }
  progress.last = reply.arrived;
  progress.stalls = 0;
  progress.done += reply.message.count;
  if (!flow.replay) note_times(flow, reply.message);
  if (flow.on_rows) flow.on_rows(reply.message, std::move(reply.payload));
}

/// Strangers answer: nothing of it is taken on trust.
Result<void> Chain::Impl::check(const Flow& flow, const Progress& progress,
                                const Reply& reply) const {
  const wire::StepReply& message = reply.message;
  if (message.position != progress.done || message.replay != flow.replay || message.count == 0 ||
      message.count > flow.to - progress.done) {
    return {Errc::bad_shape, "answers other rows than were asked"};
  }
  std::uint32_t rows = 0;
  if (!flow.from_history) {
    if (progress.in_flight.empty() || progress.in_flight.front().count != message.count) {
      return {Errc::bad_shape, "answers another number of rows than were sent"};
    }
    switch (progress.in_flight.front().want) {
      case wire::Want::nothing: break;
      case wire::Want::last_row: rows = 1; break;
      case wire::Want::all_rows: rows = message.count; break;
    }
  }
  if (message.rows != rows) return {Errc::bad_shape, "returns other rows than were wanted"};
  if (rows > 0 && message.dtype != options.residual) {
    return {Errc::bad_shape, "answers in " + std::string(name(message.dtype))};
  }
  const Result<void> shape =
      wire::check_tensor(reply.payload, rows, options.hidden_size, options.residual);
  if (!shape) return shape;
  return wire::check_finite(reply.payload.view(), options.residual);
}

void Chain::Impl::note_times(const Flow& flow, const wire::StepReply& reply) {
  if (reply.times.size() != flow.last + 1) return;
  for (std::size_t i = 0; i <= flow.last; ++i) {
    Hop& hop = *hops[i];
    const wire::HopTime& time = reply.times[i];
    const std::chrono::microseconds taken(std::int64_t{time.queue_us} + time.compute_us);
    hop.report.time = time;
    hop.report.total_ms += std::chrono::duration<double, std::milli>(taken).count();
    peers.report_success(hop.address, hop.span, taken, reply.count);
  }
}

// --- late answers --------------------------------------------------------------------------

/// Patience has run out: asks every hop of the flow whether it lives and how far it came. Who
/// does not answer is lost. Where all answer, the hop that the rows have not passed is given
/// some more time, and is lost when that is over.
net::Task<void> Chain::Impl::examine(const Flow& flow, Progress& progress) {
  const auto examination = std::make_shared<Examination>();
  const TimePoint deadline = now() + options.min_patience;
  const std::size_t begin = flow.from_history ? flow.first - 1 : flow.first;
  for (std::size_t i = begin; i <= flow.last; ++i) {
    ++examination->pending;
    net::spawn(peers.clock().executor(), "driver probe",
               probe(shared_from_this(), hops[i], i, deadline, examination));
  }
  while (examination->pending > 0 && !closed) {
    changed.reset();
    co_await changed.wait(TimePoint::max());
  }
  if (closed || any_lost() || !replies.empty()) co_return;

  ++progress.stalls;
  const Examination::Finding* stuck = nullptr;
  for (const Examination::Finding& finding : examination->findings) {
    const bool passed = finding.computed > progress.done || finding.hop < flow.first;
    if (!passed && (stuck == nullptr || finding.hop < stuck->hop)) stuck = &finding;
  }
  const std::size_t hop = stuck == nullptr ? flow.last : stuck->hop;
  const bool idle = stuck == nullptr || stuck->queued_rows == 0;
  if (progress.stalls < (idle ? kStallsIdle : kStallsBusy)) co_return;
  Error error{Errc::timeout, hops[hop]->address + (idle ? " has lost rows" : " is too slow")};
  if (idle && stuck != nullptr && hop > begin) {
    lose_between(hop - 1, hop, std::move(error));
  } else {
    lose(*hops[hop], std::move(error));
  }
}

net::Task<void> Chain::Impl::probe(Self self, std::shared_ptr<Hop> hop, std::size_t index,
                                   TimePoint deadline, std::shared_ptr<Examination> examination) {
  const std::shared_ptr<net::Connection> connection = hop->connection;
  auto asking_history = connection->call(
      wire::Verb::history, wire::encode(wire::HistoryQuery{self->options.session}), {}, deadline);
  const Result<wire::Frame> history = co_await std::move(asking_history);
  auto asking_load = connection->call(wire::Verb::ping, wire::encode(wire::Ping{}), {}, deadline);
  const Result<wire::Frame> load = co_await std::move(asking_load);
  --examination->pending;
  self->changed.set();
  if (self->closed || hop->lost) co_return;
  if (!history || !load) {
    Error error = history ? load.error() : history.error();
    if (error.code == Errc::timeout) self->peers.disconnect(hop->address, error);
    self->lose(*hop, std::move(error));
    co_return;
  }
  const auto reply = wire::decode<wire::HistoryReply>(history->header);
  const auto pong = wire::decode<wire::Pong>(load->header);
  if (!reply || !pong) {
    self->lose(*hop, reply ? pong.error() : reply.error());
    co_return;
  }
  examination->findings.push_back({index, reply->positions, pong->queued_rows});
}

}  // namespace farmesh::driver
