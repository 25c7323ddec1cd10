// What this node does for those who cannot be dialled: keeps their connections, and brings to them
// who asks for them (docs/nat.md).
//
// Takes `relay` requests from connections of any room; the sockets are net/relay.hpp's.
// Threading: confined to the network thread.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include <farmesh/result.hpp>

#include "net/connection.hpp"
#include "net/link.hpp"
#include "net/rate_book.hpp"
#include "wire/reach.hpp"

namespace farmesh::discovery {

struct RelayDeskOptions {
  net::Rate per_node{8, 0.5};  // questions for tickets
  net::Rate per_address{16, 0.5};
};

class RelayDesk {
 public:
  /// How many it keeps and brings together is for `transport.relay()` to say.
  explicit RelayDesk(net::Transport& transport, RelayDeskOptions options = {});

  void answer(const std::shared_ptr<net::Connection>& connection, const wire::Frame& request);

  /// Nodes that are kept.
  std::size_t kept();

 private:
  using ConnectionPtr = std::shared_ptr<net::Connection>;

  Result<wire::RelayReply> keep(const ConnectionPtr& connection);
  Result<wire::RelayReply> bring(const ConnectionPtr& connection, const NodeId& node);

  net::Transport& transport_;
  net::RateBook nodes_;
  net::RateBook addresses_;
  std::map<NodeId, std::weak_ptr<net::Connection>> kept_;
};

}  // namespace farmesh::discovery
