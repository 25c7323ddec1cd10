// Waits until somebody asks this process to end.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "cli/signals.hpp"

namespace farmesh::cli {

/// Make one before any thread. A SIGINT or SIGTERM that comes before ready() ends the process at
/// once with status 130; the first one after it ends wait(), the second the process.
class StopRequest {
 public:
  StopRequest();
  /// Call it before the world is told that this process serves: who reads that may ask at once.
  void ready();
  void wait();
  /// True once somebody asked; else false after `patience`.
  bool wait_for(std::chrono::milliseconds patience);

 private:
  void on_signal();

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  bool asked_ = false;
  Signals signals_;  // last: its thread uses the above
};

}  // namespace farmesh::cli
