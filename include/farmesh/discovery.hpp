// How a process finds the mesh, and is found: the addresses to begin with, and its own DHT node.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

struct DiscoveryOptions {
  /// Nodes to begin with, each "HOST:PORT" or "/ip4|ip6|dns/HOST/tcp|udp/PORT[/p2p/ID]"; one text
  /// may hold several, separated by commas.
  std::vector<std::string> bootstrap;
  /// UDP, of this process's DHT node; 0: a free one. A node without `bootstrap` begins a mesh of
  /// its own when this is given.
  std::optional<std::uint16_t> dht_port;
  bool public_dht = false;  // meet in BitTorrent's DHT as well: strangers see that this is a node
  std::string mesh;         // empty: the private mesh of the join token, else "far-mesh"
  /// Of a node: asks the router, by UPnP and NAT-PMP, for the ports it listens at beyond loopback.
  bool map_ports = true;

  bool enabled() const noexcept { return !bootstrap.empty() || dht_port || public_dht; }
};

}  // namespace farmesh::inline FARMESH_ABI
