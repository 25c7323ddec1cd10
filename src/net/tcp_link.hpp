// One TCP socket as a Link, encrypted.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <asio/ip/tcp.hpp>

#include "net/accept_gate.hpp"
#include "net/link.hpp"
#include "net/relay_switch.hpp"
#include "net/tls.hpp"

namespace farmesh::net {

/// What the links of one transport share.
struct TcpShared {
  TcpShared(Clock& c, LinkLimits l, const identity::Credentials& who)
      : clock(c),
        limits(l),
        self(who),
        tls(std::make_shared<TlsContext>(who.key)),
        gate(l),
        relay(c) {}
  Clock& clock;
  LinkLimits limits;
  const identity::Credentials self;
  std::shared_ptr<const TlsContext> tls;
  AcceptGate gate;
  RelaySwitch relay;
  bool ended = false;  // the transport has gone: links close their sockets without lingering
};

/// The socket is connected and `tls` has shaken hands over it. A link that was accepted holds its
/// ticket until it has ended.
std::shared_ptr<Link> make_tcp_link(std::shared_ptr<TcpShared> shared, asio::ip::tcp::socket socket,
                                    std::unique_ptr<TlsSession> tls, std::string remote_address,
                                    std::optional<AcceptGate::Ticket> ticket);

}  // namespace farmesh::net
