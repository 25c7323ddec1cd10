// What SIGINT and SIGTERM do to a verb that generates: first they cancel, then they end.
#pragma once

#include <functional>
#include <mutex>

#include "cli/signals.hpp"

namespace farmesh::cli {

/// Make one before any thread. Without a Scope, and at the second signal in one, the process
/// ends with status 130: peers notice, and free what was held for it.
class Interrupt {
 public:
  Interrupt();

  /// While it lives, the first signal calls `cancel` instead.
  class Scope {
   public:
    Scope(Interrupt& interrupt, std::function<void()> cancel);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupt& interrupt_;
  };

 private:
  void on_signal();

  std::mutex mutex_;
  std::function<void()> cancel_;
  Signals signals_;  // last: its thread uses the above
};

}  // namespace farmesh::cli
