// When a node goes elsewhere: looks at the mesh every so often and whenever it changes, and moves
// where it is needed more once that has been true for long enough.
//
// Takes what the mesh looks like, gives moves to make. A hole is closed after a short patience, for
// whoever left it may be about to return; balance is sought after a whole period. Whoever is not
// first in turn waits once more for each that is before it. A move that was not made is wished for
// anew from the start.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "base/types.hpp"
#include "node/span_choice.hpp"

namespace farmesh::node {

struct LifeOptions {
  std::chrono::milliseconds look_every{120'000};  // also the patience with imbalance
  std::chrono::milliseconds hole_patience{10'000};
  std::uint64_t seed = 0;  // of how much longer than that it waits: up to half as long
};

/// Remembers since when a move has been worthwhile. Reads no clock, has no thread.
class Patience {
 public:
  explicit Patience(const LifeOptions& options);

  /// What was found at `now`; the same move when its time has come, and then forgets it.
  std::optional<SpanMove> consider(const std::optional<SpanMove>& wish, TimePoint now);

  /// When to look again at the latest.
  TimePoint next_look(TimePoint now) const;

 private:
  Duration wait_for(const SpanMove& wish) const;

  const LifeOptions options_;
  std::mt19937_64 random_;
  double longer_ = 1.0;
  bool hole_ = false;  // of the wish
  std::optional<TimePoint> since_;
  TimePoint due_{};
};

/// The thread that looks and moves. `look` and `move` run on it, one at a time.
class Life {
 public:
  struct Actions {
    /// The move that is worthwhile now, if any.
    std::function<std::optional<SpanMove>()> look;
    /// Makes it, or decides against it; may take minutes.
    std::function<void(const SpanMove&)> move;
  };

  Life(const LifeOptions& options, Actions actions);
  /// Lets a move under way end. Not from an action.
  ~Life();
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  /// The mesh has changed. From any thread.
  void nudge();

 private:
  void run();

  const Actions actions_;
  Patience patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool nudged_ = false;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the above
};

}  // namespace farmesh::node
