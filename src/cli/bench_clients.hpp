// Bare sockets that ask a server of this machine: the other side of benchmarks of HTTP.
//
// They cost as little as a client can, so that what is measured is the server.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

#include <farmesh/result.hpp>

namespace farmesh::cli {

class BareClient {
 public:
  /// Fails with connection_refused.
  static Result<BareClient> connect(std::uint16_t port);
  BareClient(BareClient&& other) noexcept;
  BareClient& operator=(BareClient&&) = delete;
  ~BareClient();

  int descriptor() const noexcept { return descriptor_; }
  /// Fails with connection_lost.
  Result<void> send(std::string_view text);
  /// Waits until `mark` came once more. Fails with connection_lost.
  Result<void> await(std::string_view mark);
  /// Waits for bytes; how often `mark` came with them. Fails with connection_lost.
  Result<int> read(std::string_view mark);

 private:
  explicit BareClient(int descriptor) noexcept : descriptor_(descriptor) {}

  int descriptor_;
  std::string carry_;
};

/// Connections that a process beside this one opened, each for one request, and holds until this
/// goes: a process may not have descriptors enough for both ends.
class HeldConnections {
 public:
  /// Returns when each of them has an answer. Fails with connection_lost when one has none.
  static Result<HeldConnections> open(std::uint16_t port, std::string_view request, int count);
  HeldConnections(HeldConnections&& other) noexcept;
  HeldConnections& operator=(HeldConnections&&) = delete;
  ~HeldConnections();

 private:
  HeldConnections(pid_t process, int pipe) noexcept : process_(process), pipe_(pipe) {}

  pid_t process_;
  int pipe_;
};

/// Lets this process have as many descriptors as it may; tells how many.
int raise_descriptor_limit();

}  // namespace farmesh::cli
