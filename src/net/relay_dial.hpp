// Asking a relay for a way to a node that it keeps a connection to.
#pragma once

#include <string>

#include <farmesh/result.hpp>

#include "net/link.hpp"
#include "net/task.hpp"
#include "wire/reach.hpp"

namespace farmesh::net {

/// Says hello to the relay at `address` and asks it for `node`. Fails as Connection::connect()
/// does, or as the relay says: connection_refused (the node is not there), quota, unsupported.
Task<Result<wire::RelayTicket>> ask_relay(Transport& transport, std::string address, NodeId node,
                                          TimePoint deadline);

}  // namespace farmesh::net
