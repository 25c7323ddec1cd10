// Bare Beast, for benchmarks to stand beside: reads a request, writes its body back, and again.
//
// One connection on loopback, one thread of its own that blocks. Destroy it after its client.
#pragma once

#include <cstdint>
#include <memory>

#include <farmesh/result.hpp>

namespace farmesh::http {

class BeastEcho {
 public:
  /// Fails with io_error.
  static Result<std::unique_ptr<BeastEcho>> start();
  ~BeastEcho();

  std::uint16_t port() const noexcept;

 private:
  struct Impl;
  explicit BeastEcho(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::http
