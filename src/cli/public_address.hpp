// Where others dial a node that listens on every address of its machine.
#pragma once

#include <string>

#include <farmesh/discovery.hpp>
#include <farmesh/result.hpp>

namespace farmesh::cli {

/// `advertise` with the port of `listen` where it has none. Where it is empty or "auto", and
/// `listen` has any address: the address of this machine from which the mesh's first bootstrap
/// node is reached, without a packet sent; who is behind a NAT gives its own. Empty: as it listens.
/// Fails with config_invalid when there is no way to tell, or address_invalid.
Result<std::string> public_address(const std::string& advertise, const std::string& listen,
                                   const DiscoveryOptions& discovery);

}  // namespace farmesh::cli
