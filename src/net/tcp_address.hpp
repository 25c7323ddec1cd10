// Addresses of nodes taken apart, and endpoints put back into the plain form.
//
//   HOST:PORT  [v6]:PORT  /ip4/HOST/tcp/PORT  /ip6/…  /dns/…      each may end in /p2p/NODE-ID
//
// and, for a node that is reached through another, go on with /p2p-circuit/p2p/NODE-ID: what stands
// before it is the relay's address.
// A name may stand wherever a numeric address may. UDP addresses are read too: the DHT has them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <asio/ip/tcp.hpp>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"

namespace farmesh::net {

struct HostPort {
  std::string host;  // without brackets; never empty
  std::uint16_t port = 0;
  bool udp = false;
  std::optional<NodeId> id;  // of the node that is meant, if the address says
  std::string relay;         // whose place this is, as an address of its own; empty: the node's own
};

inline constexpr std::string_view kCircuit = "/p2p-circuit";

/// An address of `node` through `relay`, which is an address too.
std::string circuit_address(const std::string& relay, const NodeId& node);

/// Fails with address_invalid, which names what is wrong with the address.
Result<HostPort> parse_address(std::string_view address);

std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint);

}  // namespace farmesh::net
