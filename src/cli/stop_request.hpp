// Waits until somebody asks this process to end.
#pragma once

#include <condition_variable>
#include <mutex>

#include "cli/signals.hpp"

namespace farmesh::cli {

/// Make one before any thread. The first SIGINT or SIGTERM ends wait(); the second, and one that
/// comes before wait() was called, ends the process at once with status 130.
class StopRequest {
 public:
  StopRequest();
  void wait();

 private:
  void on_signal();

  std::mutex mutex_;
  std::condition_variable changed_;
  bool waiting_ = false;
  bool asked_ = false;
  Signals signals_;  // last: its thread uses the above
};

}  // namespace farmesh::cli
