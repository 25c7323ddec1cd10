// A scheduler over a stand-in engine, whose passes and time the test moves by hand.
#pragma once

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "serve/scheduler.hpp"
#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve::test {

inline constexpr std::uint32_t kPages = 128;

struct Outcome {
  std::uint32_t session = 0;
  std::uint32_t position = 0;
  Result<StepOutput> result;
};

class SchedulerRig {
 public:
  explicit SchedulerRig(WorkerLimits limits = small_limits(), std::uint32_t pages = kPages)
      : engine(make_engine()), scheduler(engine->info(), pages, limits) {
    REQUIRE(engine->reserve_pages(pages));
  }

  static WorkerLimits small_limits() {
    WorkerLimits limits;
    limits.max_sessions = 40;
    limits.max_batch_rows = 8;
    limits.max_step_rows = 32;
    limits.window_steps = 4;
    limits.max_queued_rows = 96;
    return limits;
  }

  Result<wire::OpenReply> open(std::uint32_t session, std::uint32_t max_positions = 64,
                               Span span = kAllLayers, std::uint32_t epoch = 1,
                               std::vector<PageName> names = {}, std::uint8_t driver = 1) {
    wire::Open message;
    message.session = session_id(session);
    message.epoch = epoch;
    message.span = span;
    message.max_positions = max_positions;
    message.page_names = std::move(names);
    return scheduler.open(message, node_id(driver), now);
  }

  Errc step(std::uint32_t session, std::uint32_t position, const Tokens& ids,
            std::uint32_t epoch = 1, TimePoint deadline = TimePoint::max(), bool replay = false) {
    StepWork work;
    work.session = session_id(session);
    work.epoch = epoch;
    work.position = position;
    work.count = static_cast<std::uint32_t>(ids.size());
    work.input = embed(ids);
    work.deadline = deadline;
    work.replay = replay;
    auto done = [this, session, position](Result<StepOutput> result) {
      outcomes.push_back({session, position, std::move(result)});
    };
    const Result<void> taken = scheduler.step(std::move(work), done, now);
    return taken ? Errc::ok : taken.error().code;
  }

  Errc truncate(std::uint32_t session, std::uint32_t position, std::uint32_t epoch = 1) {
    const auto done = scheduler.truncate({session_id(session), epoch, position}, now);
    return done ? Errc::ok : done.error().code;
  }

  /// What the compute thread would do.
  void compute(Scheduler::Batch& batch) {
    for (const PageCopy& copy : batch.copies) REQUIRE(engine->copy_page(copy.from, copy.to));
    std::vector<model::SequenceRows> rows;
    for (const Scheduler::Slice& slice : batch.slices) {
      rows.push_back({slice.pages, slice.position, slice.rows, slice.input, slice.output});
    }
    REQUIRE(engine->forward(batch.blocks, rows));
  }

  std::vector<Outcome> take_outcomes() {
    while (auto finished = scheduler.pop_finished()) finished->done(std::move(finished->result));
    return std::exchange(outcomes, {});
  }

  /// One batch from begin to end; the rows it had.
  std::uint32_t run_one() {
    auto batch = scheduler.next_batch(now);
    if (!batch) return 0;
    compute(*batch);
    const std::uint32_t rows = batch->rows;
    scheduler.finish_batch(std::move(*batch), now);
    return rows;
  }
  void run_all() {
    while (run_one() > 0) {
    }
  }

  std::unique_ptr<model::StageEngine> engine;
  Scheduler scheduler;
  TimePoint now{};
  std::vector<Outcome> outcomes;
};

/// (position, rows) of each slice, to compare what a batch is made of.
inline std::vector<std::pair<std::uint32_t, std::uint32_t>> slices(const Scheduler::Batch& batch) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> out;
  for (const auto& slice : batch.slices) out.emplace_back(slice.position, slice.rows);
  return out;
}

inline Errc code(const Outcome& outcome) {
  return outcome.result ? Errc::ok : outcome.result.error().code;
}

}  // namespace farmesh::serve::test
