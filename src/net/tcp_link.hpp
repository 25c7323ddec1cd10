// One TCP socket as a Link.
#pragma once

#include <memory>
#include <string>

#include <asio/ip/tcp.hpp>

#include "net/link.hpp"

namespace farmesh::net {

/// What the links of one transport share.
struct TcpShared {
  explicit TcpShared(Clock& c, LinkLimits l) : clock(c), limits(l) {}
  Clock& clock;
  LinkLimits limits;
  std::size_t accepted_links = 0;
  bool ended = false;  // the transport has gone: links close their sockets without lingering
};

/// `accepted` links are counted in `shared`. The socket is connected.
std::shared_ptr<Link> make_tcp_link(std::shared_ptr<TcpShared> shared, asio::ip::tcp::socket socket,
                                    std::string remote_address, bool accepted);

}  // namespace farmesh::net
