// Tells a process that was forked from the one which made an object: there the threads behind
// the object do not exist, and its locks may be held for ever.
#pragma once

#include <unistd.h>

#include <farmesh/result.hpp>

namespace farmesh::client {

class ProcessGuard {
 public:
  bool forked() const noexcept { return ::getpid() != maker_; }

  /// Fails with unsupported after fork().
  Result<void> check() const {
    if (!forked()) return {};
    return {Errc::unsupported, "made before fork(); make a new one in this process"};
  }

 private:
  pid_t maker_ = ::getpid();
};

}  // namespace farmesh::client
