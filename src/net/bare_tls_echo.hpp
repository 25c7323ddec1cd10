// A ping-pong over TLS with nothing of ours in it, for the benchmark to stand beside: OpenSSL
// reads and writes the socket itself, asio's coroutines wait for it.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::net {

class BareTlsEcho {
 public:
  /// The echoing thread is pinned to core `far_core`.
  BareTlsEcho(std::size_t bytes, int far_core);
  ~BareTlsEcho();

  /// Connects over loopback and shakes hands. Call once, first.
  Result<void> open();
  /// Microseconds of each round trip of `bytes`. Fails with connection_lost.
  Result<void> run(int trips, std::vector<double>& samples);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::net
