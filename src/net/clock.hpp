// Time and timers as the mesh sees them: the machine's own, or virtual in simulations.
//
// Every wait in net/, serve/, driver/ and client/ goes through a Clock, so that a test can run
// an hour of failures in a second, the same way every time.
// A clock ends before its io_context and after everything that uses it; it owns the coroutines
// that wait on it, so nothing that is destroyed later may call it: destructors of this room
// leave their timers to expire.
// Threading: all calls on the executor's one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include <asio/io_context.hpp>

#include "base/types.hpp"
#include "net/task.hpp"

namespace farmesh::net {

using TimerId = std::uint64_t;  // 0 is never a timer

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
  /// Runs `fn` on the executor at `when` or as soon after as it is free. Never runs it inline.
  virtual TimerId call_at(TimePoint when, std::function<void()> fn) = 0;
  /// No effect when the timer has run or was cancelled.
  virtual void cancel(TimerId id) = 0;
  virtual Executor executor() = 0;

  Task<void> sleep_until(TimePoint when);
};

/// steady_clock and one asio timer behind an ordered queue.
std::unique_ptr<Clock> make_real_clock(asio::io_context& context);

/// Another clock as a machine with a bad crystal sees it: `drift` faster (0.01: one percent), and
/// `ahead` of it from the start. `base` outlives it.
class SkewedClock final : public Clock {
 public:
  SkewedClock(Clock& base, double drift, Duration ahead);
  TimePoint now() const override;
  TimerId call_at(TimePoint when, std::function<void()> fn) override;
  void cancel(TimerId id) override;
  Executor executor() override;

  /// What the other clock shows when this one shows `when`.
  TimePoint base_time(TimePoint when) const;

 private:
  Clock& base_;
  const double rate_;
  const Duration ahead_;
  const TimePoint start_;  // of the other clock
};

/// Virtual time on one io_context: run_until() executes all ready work, then jumps to the next
/// timer. Nothing in it sleeps. Timers due at the same instant run in the order they were set.
class SimClock final : public Clock {
 public:
  explicit SimClock(asio::io_context& context);
  ~SimClock() override;
  TimePoint now() const override;
  TimerId call_at(TimePoint when, std::function<void()> fn) override;
  void cancel(TimerId id) override;
  Executor executor() override;

  /// Runs until `done()` is true (checked between handlers), nothing is left to do, or virtual
  /// `deadline` passes. True when done().
  bool run_until(const std::function<bool()>& done, TimePoint deadline);

 private:
  asio::io_context& context_;
  TimePoint now_{};
  TimerId next_id_ = 1;
  std::map<std::pair<TimePoint, TimerId>, std::function<void()>> timers_;
  std::map<TimerId, TimePoint> due_;
};

}  // namespace farmesh::net
