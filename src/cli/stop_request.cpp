#include "cli/stop_request.hpp"

#include <cstdlib>

#include "cli/exit_code.hpp"

namespace farmesh::cli {

StopRequest::StopRequest() : signals_([this](int) { on_signal(); }) {}

void StopRequest::on_signal() {
  {
    const std::lock_guard lock(mutex_);
    if (asked_ || !ready_) std::_Exit(kInterrupted);
    asked_ = true;
  }
  changed_.notify_all();
}

void StopRequest::ready() {
  const std::lock_guard lock(mutex_);
  ready_ = true;
}

void StopRequest::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return asked_; });
}

bool StopRequest::wait_for(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [this] { return asked_; });
}

}  // namespace farmesh::cli
