// How much of a listener one address and one key may have: links at once, handshakes a second.
//
// A handshake costs the listening side a signature and a key exchange, so an address that asks
// too often is turned away before one begins. Threading: confined to the transport's executor;
// tickets may outlive the gate.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"
#include "net/link.hpp"

namespace farmesh::net {

class AcceptGate {
 public:
  explicit AcceptGate(const LinkLimits& limits);

  /// Counts one link for as long as it lives.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept;
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket();

    /// The remote has proven who it is. Call once. Fails with quota when the key has as many
    /// links as it may.
    Result<void> identify(const NodeId& id);

   private:
    friend class AcceptGate;
    struct Counted;
    explicit Ticket(std::unique_ptr<Counted> counted);
    std::unique_ptr<Counted> counted_;
  };

  /// Somebody at `address` (without a port; for version 6 the network of 64 bits) has connected.
  /// Fails with busy when the address, or all of them, have as many links as they may, and with
  /// quota when the address begins handshakes too fast.
  Result<Ticket> admit(const std::string& address, TimePoint now);

  std::size_t links() const noexcept;  // tickets out

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with tickets
};

}  // namespace farmesh::net
