#include "node/life.hpp"

#include <algorithm>
#include <utility>

#include "base/thread.hpp"

namespace farmesh::node {
namespace {

constexpr std::uint32_t kLastTurn = 8;  // nobody waits longer, however many are before him
// The mesh may be noisy: changes are looked at together, and looking takes a small part of the time
// even where ten thousand nodes are to be looked at.
constexpr std::chrono::milliseconds kBetweenLooks{200};
constexpr int kPartOfTime = 20;

}  // namespace

Patience::Patience(const LifeOptions& options) : options_(options), random_(options.seed) {}

Duration Patience::wait_for(const SpanMove& wish) const {
  const Duration once =
      wish.reason == MoveReason::balance ? options_.look_every : options_.hole_patience;
  const double turns = 1.0 + std::min(wish.turn, kLastTurn);
  return std::chrono::duration_cast<Duration>(once * turns * longer_);
}

std::optional<SpanMove> Patience::consider(const std::optional<SpanMove>& wish, TimePoint now) {
  if (!wish) {
    since_.reset();
    return std::nullopt;
  }
  const bool hole = wish->reason != MoveReason::balance;
  if (!since_ || hole != hole_) {
    since_ = now;
    hole_ = hole;
    longer_ = std::uniform_real_distribution<>(1.0, 1.5)(random_);
  }
  due_ = *since_ + wait_for(*wish);
  if (now < due_) return std::nullopt;
  since_.reset();
  return wish;
}

TimePoint Patience::next_look(TimePoint now) const {
  const TimePoint usual = now + options_.look_every;
  return since_ ? std::min(usual, due_) : usual;
}

Life::Life(const LifeOptions& options, Actions actions)
    : actions_(std::move(actions)),
      patience_(options),
      thread_(start_thread("node-life", [this] { run(); })) {}

Life::~Life() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Life::nudge() {
  {
    const std::lock_guard lock(mutex_);
    nudged_ = true;
  }
  changed_.notify_all();
}

void Life::run() {
  using Clock = std::chrono::steady_clock;
  for (;;) {
    const TimePoint began = Clock::now();
    const std::optional<SpanMove> wish = actions_.look();
    const Duration rest = std::max<Duration>(kBetweenLooks, (Clock::now() - began) * kPartOfTime);
    const std::optional<SpanMove> due = patience_.consider(wish, Clock::now());
    if (due) actions_.move(*due);
    const TimePoint next = patience_.next_look(Clock::now());
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, rest, [this] { return ending_; });
    changed_.wait_until(lock, next, [this] { return ending_ || nudged_; });
    nudged_ = false;
    if (ending_) return;
  }
}

}  // namespace farmesh::node
