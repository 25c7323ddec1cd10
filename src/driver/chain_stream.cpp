// Rows through hops: chunks in flight, answers checked, times kept.

#include <algorithm>

#include "driver/chain_impl.hpp"
#include "wire/row_codec.hpp"

namespace farmesh::driver {
namespace {

constexpr std::chrono::milliseconds kFullLinkPause{10};

}  // namespace

net::Task<Result<void>> Chain::Impl::stream(Flow flow) {
  Progress progress;
  progress.next_send = flow.from_history ? flow.to : flow.from;
  progress.done = flow.from;
  progress.last = now();
  progress.next_look = TimePoint::min();
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
      if (progress.next_look == TimePoint::min()) {
        progress.next_look = progress.last + late_after(rows_awaited(flow, progress));
      }
      changed.reset();
      const bool told = co_await changed.wait(progress.next_look);
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

/// Of the answer that is to come next.
std::uint32_t Chain::Impl::rows_awaited(const Flow& flow, const Progress& progress) const {
  return flow.from_history || progress.in_flight.empty() ? options.max_chunk_rows
                                                         : progress.in_flight.front().count;
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
  Result<Payload> payload = as_sent(*std::move(rows));
  if (!payload) co_return payload.error();

  const bool is_last = progress.next_send + count == flow.to;
  wire::Step step;
  step.session = options.session;
  step.epoch = epoch;
  step.position = progress.next_send;
  step.count = count;
  step.dtype = wire::travelling_dtype(options.activations, options.residual);
  step.want = flow.want == wire::Want::last_row && !is_last ? wire::Want::nothing : flow.want;
  step.replay = flow.replay;
  if (count == 1 && !flow.replay) step.groups = static_cast<std::uint8_t>(ring.groups());
  for (std::size_t i = 1; i <= flow.last; ++i) {
    const auto& standby = hops[i]->standby;
    const bool copies = !flow.replay && standby && standby->copies;
    step.route.push_back({hops[i]->address, hops[i]->span, copies ? standby->address : ""});
  }
  wire::Frame frame;
  frame.verb = wire::Verb::step;
  frame.header = wire::encode(step);
  frame.payload = *std::move(payload);
  if (!flow.replay) copy_to_standby(frame, step);
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
  if (progress.in_flight.empty()) {
    progress.last = now();
    progress.next_look = TimePoint::min();
  }
  progress.in_flight.push_back({step.position, count, step.want, now()});
  progress.next_send += count;
  co_return Result<void>();
}

void Chain::Impl::receive(const Flow& flow, Progress& progress, Reply reply) {
  Hop& last = *hops[flow.last];
  if (reply.address != last.address) return;  // nobody asked it
  const Result<void> valid = check(flow, progress, reply);
  Result<Payload> rows = valid ? rows_of(reply) : valid.error();
  if (!rows) {
    lose(last, {rows.error().code, last.address + ": " + rows.error().detail});
    return;
  }
  if (!flow.from_history) {
    const TimePoint began = std::max(progress.last, progress.in_flight.front().sent);
    patience.measured(reply.message.count, reply.arrived - began);
    if (reply.message.count == 1 && !flow.replay)
      ring.measured(reply.arrived - began, reply.message.times);
    progress.in_flight.pop_front();
  }
  progress.last = reply.arrived;
  progress.next_look = TimePoint::min();
  progress.looks = 0;
  progress.seen_at.reset();
  progress.done += reply.message.count;
  if (!flow.replay) note_times(flow, reply.message);
  if (flow.on_rows) flow.on_rows(reply.message, *std::move(rows));
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
  if (rows > 0 && message.dtype != wire::travelling_dtype(options.activations, options.residual)) {
    return {Errc::bad_shape, "answers in " + std::string(name(message.dtype))};
  }
  return {};
}

/// What a valid reply holds, in the residual's dtype and finite.
Result<Payload> Chain::Impl::rows_of(const Reply& reply) const {
  if (options.activations == Activations::int8) {
    return wire::unpack_rows(reply.payload.view(), reply.message.rows, options.hidden_size,
                             options.residual);
  }
  const Result<void> shape =
      wire::check_tensor(reply.payload, reply.message.rows, options.hidden_size, options.residual);
  if (!shape) return shape.error();
  const Result<void> finite = wire::check_finite(reply.payload.view(), options.residual);
  if (!finite) return finite.error();
  return reply.payload;
}

/// Rows of this session as they travel.
Result<Payload> Chain::Impl::as_sent(Payload rows) const {
  if (options.activations == Activations::residual) return rows;
  return wire::pack_rows(rows.view(), options.hidden_size, options.residual);
}

void Chain::Impl::note_times(const Flow& flow, const wire::StepReply& reply) {
  if (reply.times.size() != flow.last + 1) return;
  for (std::size_t i = 0; i <= flow.last; ++i) {
    Hop& hop = *hops[i];
    const wire::HopTime& time = reply.times[i];
    const std::chrono::microseconds taken(std::int64_t{time.queue_us} + time.compute_us);
    hop.report.time = time;
    hop.report.total_ms += std::chrono::duration<double, std::milli>(taken).count();
    hop.patience.measured(reply.count, taken);
    peers.report_success(hop.address, hop.span, taken, reply.count);
    if (i < flow.last && i < reply.next_us.size() && reply.next_us[i] > 0) {
      const std::chrono::microseconds round_trip(reply.next_us[i]);
      peers.report_link(hop.address, hops[i + 1]->address, round_trip);
    }
  }
}

}  // namespace farmesh::driver
