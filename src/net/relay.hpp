// What a transport does as a relay: brings two remotes together whose bytes it does not read.
//
// Takes the ids of two nodes, gives a ticket for each; whoever then connects to this transport's
// listeners with a ticket instead of a TLS handshake is spliced to who has the other.
// docs/nat.md tells the whole story. Threading: confined to the transport's executor.
#pragma once

#include <chrono>
#include <cstdint>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "wire/reach.hpp"

namespace farmesh::net {

struct RelayLimits {
  std::uint32_t sessions = 0;           // pairs at once; 0: this node is no relay
  std::uint32_t sessions_per_node = 8;  // of those, with one node at an end
  double bytes_per_second = 2'500'000;  // of all, both ways together
  std::uint64_t bytes_per_day = 50'000'000'000;
  std::chrono::milliseconds ticket_life{10'000};
  std::chrono::milliseconds idle{60'000};  // a pair of which nothing was heard for so long ends
};

struct RelayStats {
  std::uint32_t pairs = 0;    // that hold a place: spliced, or their tickets are out
  std::uint64_t spliced = 0;  // pairs, ever
  std::uint64_t lapsed = 0;   // pairs of which one end never came
  std::uint64_t unknown = 0;  // tickets that were none, used, or lapsed
  std::uint64_t bytes = 0;    // passed on
};

class Relay {
 public:
  struct Tickets {
    wire::RelayTicket dialler;
    wire::RelayTicket hidden;
  };

  virtual ~Relay() = default;
  /// From now on; pairs under way end when they are no longer allowed any session.
  virtual void allow(const RelayLimits& limits) = 0;
  virtual const RelayLimits& limits() const noexcept = 0;
  /// Holds a place for the pair. Fails with unsupported (no relay) or quota.
  virtual Result<Tickets> reserve(const NodeId& dialler, const NodeId& hidden) = 0;
  virtual RelayStats stats() const noexcept = 0;
};

}  // namespace farmesh::net
