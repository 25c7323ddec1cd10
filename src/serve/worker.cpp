#include "serve/worker.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include <asio/post.hpp>

#include "serve/head_queue.hpp"
#include "serve/pacing.hpp"
#include "serve/pipeline.hpp"
#include "serve/scheduler.hpp"

namespace farmesh::serve {
namespace {

// A pass is put off until so many turns of the executor, one after another, have brought nothing
// more to do: a frame for another session is a turn or two away from the request it becomes.
constexpr int kQuietTurns = 3;
constexpr int kMostTurns = 192;

enum class Kind { logits, embed, blocks };  // of passes

constexpr Kind after(Kind kind) {
  switch (kind) {
    case Kind::logits: return Kind::embed;
    case Kind::embed: return Kind::blocks;
    case Kind::blocks: break;
  }
  return Kind::logits;
}

// Failures to open that room made by others would mend.
bool is_full(Errc code) { return code == Errc::no_cache_space || code == Errc::too_many_sessions; }

/// On the compute thread. Sets the result of every slice.
void run_batch(model::StageEngine& engine, Scheduler::Batch& batch) {
  const Result<void> ran = caught([&]() -> Result<void> {
    for (const PageCopy& copy : batch.copies) {
      const Result<void> copied = engine.copy_page(copy.from, copy.to);
      if (!copied) return copied;
    }
    std::vector<model::SequenceRows> sequences;
    for (Scheduler::Slice& slice : batch.slices) {
      slice.result = wire::check_finite(slice.input, engine.info().residual);
      if (!slice.result) continue;
      sequences.push_back({slice.pages, slice.position, slice.rows, slice.input, slice.output});
    }
    if (sequences.empty()) return {};
    return engine.forward(batch.blocks, sequences);
  });
  if (ran) return;
  for (Scheduler::Slice& slice : batch.slices) {
    if (slice.result) slice.result = ran;
  }
}

std::uint32_t pages_within(const model::EngineInfo& info, const WorkerLimits& limits) {
  if (info.blocks.empty()) return 0;
  if (limits.cache_bytes > 0 && info.page_bytes > 0) {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(limits.cache_bytes / info.page_bytes, UINT32_MAX / 2));
  }
  return (limits.cache_tokens + info.page_tokens - 1) / info.page_tokens;
}

}  // namespace

struct Worker::Impl : std::enable_shared_from_this<Impl> {
  Impl(std::unique_ptr<model::StageEngine> stage, std::unique_ptr<Compute> passes, net::Clock& c,
       std::uint32_t pages, const WorkerLimits& limits)
      : clock(c),
        engine(std::move(stage)),
        scheduler(engine->info(), pages, limits),
        head(*engine, limits),
        compute(std::move(passes)) {}

  void wake();
  void look_again(std::uint64_t seen, int quiet_turns, int turns_left);
  void turn();
  void begin_pass();
  bool begin(Kind kind);
  bool begin_blocks();
  bool begin_head(HeadQueue::Pass pass);
  void end_blocks(Scheduler::Batch batch);
  void end_pass();
  void give_results();
  void wait_until(TimePoint when);
  void watch_idle();
  void close_idle();

  net::Clock& clock;
  std::unique_ptr<model::StageEngine> engine;
  Scheduler scheduler;
  HeadQueue head;
  Pacing pacing;
  Pipeline pipeline{engine->info().blocks.begin == 0};
  std::function<void(const SessionId&)> on_idle_close;
  std::unique_ptr<Compute> compute;  // before the engine ends, so does the pass at hand
  bool computing = false;
  bool woken = false;
  std::uint64_t requests = 0;  // that woke it; turn() follows when they pause
  Kind last_kind = Kind::blocks;
  net::TimerId pause = 0;  // until the next batch should begin
  net::TimerId idle = 0;   // until the next session may be idle
};

/// Has turn() run soon: when the executor brings nothing more to do, so that steps that came
/// together run together.
void Worker::Impl::wake() {
  ++requests;
  if (woken) return;
  woken = true;
  look_again(requests, 0, kMostTurns);
}

void Worker::Impl::look_again(std::uint64_t seen, int quiet_turns, int turns_left) {
  asio::post(clock.executor(), [weak = weak_from_this(), seen, quiet_turns, turns_left] {
    const auto self = weak.lock();
    if (!self || !self->compute) return;
    const int quiet = self->requests == seen ? quiet_turns + 1 : 0;
    if (quiet < kQuietTurns && turns_left > 0 && !self->computing) {
      return self->look_again(self->requests, quiet, turns_left - 1);
    }
    self->woken = false;
    self->turn();
  });
}

void Worker::Impl::turn() {
  give_results();
  if (!computing && compute) begin_pass();
  if (idle == 0 && compute) watch_idle();
}

/// Gives results one by one: a receiver may close sessions, or this worker.
void Worker::Impl::give_results() {
  while (compute) {
    std::optional<Scheduler::Finished> finished = scheduler.pop_finished();
    if (!finished) return;
    if (finished->result && !scheduler.has_steps(finished->session)) {
      pacing.sent_off(finished->session, clock.now());
    }
    finished->done(std::move(finished->result));
  }
}

// --- passes ----------------------------------------------------------------------------------

/// The kinds of work take turns, so that none keeps another waiting.
void Worker::Impl::begin_pass() {
  Kind kind = last_kind;
  do {
    kind = after(kind);
    if (begin(kind)) {
      last_kind = kind;
      return;
    }
  } while (kind != last_kind);
  // A batch that found nothing but lapsed steps leaves their results.
  if (scheduler.has_finished()) wake();
}

/// False when there is nothing of this kind to do yet.
bool Worker::Impl::begin(Kind kind) {
  switch (kind) {
    case Kind::logits: return head.wants_logits() && begin_head(head.take_logits());
    case Kind::embed: return head.wants_embed() && begin_head(head.take_embed());
    case Kind::blocks: return begin_blocks();
  }
  return false;
}

bool Worker::Impl::begin_head(HeadQueue::Pass pass) {
  computing = true;
  compute->run(pass.rows, std::move(pass.work),
               [weak = weak_from_this(), began = clock.now(), done = std::move(pass.done)] {
                 const auto self = weak.lock();
                 if (!self) return;
                 const TimePoint now = self->clock.now();
                 self->pacing.head_ended(now, now - began);
                 done();
                 self->end_pass();
               });
  return true;
}

bool Worker::Impl::begin_blocks() {
  const TimePoint now = clock.now();
  if (!scheduler.waiting()) return false;
  const Scheduler::Decoding decoding = scheduler.decoding();
  Pipeline::Plan plan;
  if (decoding.rows > 0) {
    plan = pipeline.plan({now, decoding.rows, decoding.since, pacing.ended(), pacing.shortest()});
  }
  const TimePoint begin = std::max(pacing.begin_at(), plan.begin);
  if (begin > now) {
    wait_until(begin);
    return false;
  }
  std::optional<Scheduler::Batch> next = scheduler.next_batch(now, plan.rows);
  if (!next) return false;
  std::vector<SessionId> decoders;
  for (const Scheduler::Slice& slice : next->slices) {
    if (slice.rows == 1) decoders.push_back(slice.session);
  }
  pipeline.begun(decoders);
  const auto batch = std::make_shared<Scheduler::Batch>(std::move(*next));
  computing = true;
  compute->run(
      batch->rows, [batch, stage = engine.get()] { run_batch(*stage, *batch); },
      [batch, weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->end_blocks(std::move(*batch));
      });
  return true;
}

void Worker::Impl::end_blocks(Scheduler::Batch batch) {
  const TimePoint now = clock.now();
  pacing.batch_ended(now, now - batch.began);
  scheduler.finish_batch(std::move(batch), now);
  end_pass();
}

void Worker::Impl::end_pass() {
  computing = false;
  if (!compute) return;
  give_results();
  // Whoever wants more at once says so before wake() comes to it.
  wake();
}

void Worker::Impl::wait_until(TimePoint when) {
  if (pause != 0) return;
  pause = clock.call_at(when, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || !self->compute) return;
    self->pause = 0;
    self->wake();
  });
}

// --- idle sessions ---------------------------------------------------------------------------

void Worker::Impl::watch_idle() {
  const std::optional<TimePoint> when = scheduler.idle_deadline();
  if (!when) return;
  idle = clock.call_at(*when, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && self->compute) self->close_idle();
  });
}

void Worker::Impl::close_idle() {
  idle = 0;
  for (const SessionId& session : scheduler.close_idle(clock.now())) {
    pacing.closed(session);
    pipeline.closed(session);
    if (on_idle_close) on_idle_close(session);
  }
  watch_idle();
}

// --- the class -------------------------------------------------------------------------------

Result<std::unique_ptr<Worker>> Worker::create(std::unique_ptr<model::StageEngine> engine,
                                               std::unique_ptr<Compute> compute, net::Clock& clock,
                                               const WorkerLimits& limits) {
  if (limits.max_batch_rows == 0 || limits.max_step_rows == 0 || limits.window_steps == 0) {
    return {Errc::invalid_argument, "a worker needs batches, steps and a window of at least one"};
  }
  const std::uint32_t pages = pages_within(engine->info(), limits);
  if (pages > 0) {
    const Result<void> reserved = engine->reserve_pages(pages);
    if (!reserved) return reserved.error();
  }
  auto impl = std::make_shared<Impl>(std::move(engine), std::move(compute), clock, pages, limits);
  return std::unique_ptr<Worker>(new Worker(std::move(impl)));
}

Worker::Worker(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Worker::~Worker() {
  impl_->compute.reset();
  impl_->clock.cancel(impl_->pause);
  impl_->clock.cancel(impl_->idle);
}

Result<wire::OpenReply> Worker::open(const wire::Open& open, const wire::NodeId& scope) {
  const TimePoint now = impl_->clock.now();
  Result<wire::OpenReply> reply = impl_->scheduler.open(open, scope, now);
  while (!reply && is_full(reply.error().code)) {
    const std::optional<SessionId> gone = impl_->scheduler.make_room(open, now);
    if (!gone) break;
    impl_->pacing.closed(*gone);
    impl_->pipeline.closed(*gone);
    if (impl_->on_idle_close) impl_->on_idle_close(*gone);
    reply = impl_->scheduler.open(open, scope, now);
  }
  impl_->wake();  // an epoch it raised may have ended steps
  return reply;
}

Result<void> Worker::step(StepWork work, StepDone done) {
  const TimePoint now = impl_->clock.now();
  impl_->pacing.came_back(work.session, now);
  const bool decodes = work.count == 1 && !work.replay;
  const auto [session, groups, batch_rows] = std::tuple(work.session, work.groups, work.batch_rows);
  Result<void> queued = impl_->scheduler.step(std::move(work), std::move(done), now);
  if (queued && decodes) impl_->pipeline.came(session, groups, batch_rows, now);
  impl_->wake();
  return queued;
}

Result<void> Worker::truncate(const wire::Truncate& truncate) {
  Result<void> truncated = impl_->scheduler.truncate(truncate, impl_->clock.now());
  impl_->wake();
  return truncated;
}

void Worker::close(const SessionId& session) {
  impl_->scheduler.close(session);
  impl_->pacing.closed(session);
  impl_->pipeline.closed(session);
}

void Worker::on_idle_close(std::function<void(const SessionId&)> closed) {
  impl_->on_idle_close = std::move(closed);
}

std::optional<std::uint32_t> Worker::positions(const SessionId& session) const {
  return impl_->scheduler.positions(session);
}

std::optional<std::uint32_t> Worker::received(const SessionId& session) const {
  return impl_->scheduler.received(session);
}

void Worker::embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) {
  impl_->head.embed(std::move(ids), std::move(done));
  impl_->wake();
}

void Worker::logits(Payload hidden, std::uint32_t rows,
                    std::function<void(Result<std::vector<float>>)> done) {
  impl_->head.logits(std::move(hidden), rows, std::move(done));
  impl_->wake();
}

const model::EngineInfo& Worker::info() const noexcept { return impl_->engine->info(); }

wire::Pong Worker::load() const noexcept {
  wire::Pong load;
  load.queued_rows = impl_->scheduler.queued_rows() + impl_->head.queued_rows();
  load.free_pages = impl_->scheduler.pool().promisable();
  load.sessions = impl_->scheduler.sessions();
  return load;
}

}  // namespace farmesh::serve
