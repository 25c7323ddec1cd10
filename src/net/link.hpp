// An ordered, two-way pipe of frames to one remote, and what makes such pipes.
//
// Implementations: TCP (tcp_transport.hpp), inside one process (pipe in sim_transport.hpp), and
// a simulated network with delay, loss of links and death (sim_transport.hpp).
// Threading: confined to the transport's executor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"
#include "identity/join_token.hpp"
#include "net/clock.hpp"
#include "net/relay.hpp"
#include "net/task.hpp"
#include "wire/frame.hpp"

namespace farmesh::net {

struct LinkLimits {
  std::size_t max_queued_bytes = 128u << 20;  // send() beyond this fails with busy
  // Of a listener; whoever asks for more is told busy or quota.
  std::size_t max_accepted_links = 1'024;
  std::size_t max_links_per_address = 128;
  std::size_t max_links_per_key = 64;  // of one node, whatever its addresses
  double handshakes_per_second = 20;   // begun by one address
  double handshake_burst = 100;        // that an address may begin after a while without
};

/// Who the ends of a link are, where its transport has proof of it.
struct LinkIdentity {
  NodeId local{};  // all zero: there is none, and what hello says is believed
  NodeId remote{};
  std::shared_ptr<const identity::Membership> mesh{};  // of this side; null: the open mesh
};

class Link {
 public:
  virtual ~Link() = default;

  /// Begins to deliver. Call once. `on_frame` gets frames in order; `on_close` is called once,
  /// when the link has ended for any reason but the destructor, and nothing follows it. Both
  /// run on the executor, never inside start() or send().
  virtual void start(std::function<void(wire::Frame)> on_frame,
                     std::function<void(Error)> on_close) = 0;

  /// Queues a frame; the payload's memory is shared, not copied. Fails with busy (queue full),
  /// frame_too_large, or the reason for which the link has ended.
  virtual Result<void> send(wire::Frame frame) = 0;

  virtual std::size_t queued_bytes() const noexcept = 0;
  virtual bool is_open() const noexcept = 0;

  /// Idempotent. Frames already queued are still sent if that takes no more than a moment; the
  /// remote then sees connection_lost.
  virtual void close(Error reason) = 0;

  virtual const std::string& remote_address() const noexcept = 0;

  /// Numeric "HOST:PORT" at the other end of the socket: what a dialled name stood for, and of a
  /// relayed link its relay. Empty where there is no socket.
  virtual std::string remote_endpoint() const { return {}; }

  virtual const LinkIdentity& identity() const noexcept {
    static const LinkIdentity unknown;
    return unknown;
  }

  /// Frames with a larger payload than this end the link with frame_too_large, before memory is
  /// taken for them. kMaxPayloadBytes at first; a Connection lowers it until the remote has said
  /// hello. Links that receive no bytes ignore it.
  virtual void limit_payload(std::uint32_t bytes) { static_cast<void>(bytes); }

  /// When bytes last arrived, or last left while more of them waited to: a link that moves a
  /// large frame slowly is alive. TimePoint::min() where only whole frames are seen.
  virtual TimePoint last_progress() const noexcept { return TimePoint::min(); }
};

/// Keeps accepting until destroyed.
class Listener {
 public:
  virtual ~Listener() = default;
  /// With the port that was chosen when 0 was asked for: "127.0.0.1:31330".
  virtual const std::string& address() const noexcept = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual Clock& clock() noexcept = 0;

  /// `address` is one of the forms of tcp_address.hpp; where it ends in "/p2p/ID" only the node
  /// of that id will do, and it may lead through a relay. Fails with address_invalid,
  /// connection_refused, timeout, io_error, tls_failed, identity_mismatch, busy.
  virtual Task<Result<std::shared_ptr<Link>>> dial(std::string address, TimePoint deadline) = 0;

  virtual Result<std::unique_ptr<Listener>> listen(
      const std::string& address, std::function<void(std::shared_ptr<Link>)> on_link) = 0;

  /// Every "HOST:PORT", numeric where there are numbers, that `address` stands for. Fails with
  /// address_invalid, timeout.
  virtual Task<Result<std::vector<std::string>>> resolve(std::string address, TimePoint deadline) {
    static_cast<void>(deadline);
    co_return std::vector<std::string>{std::move(address)};
  }

  /// Meets the remote that a relay has a ticket for, as a listener would have: the remote dials,
  /// this side accepts. `relay` is the relay's address. Fails as dial() does.
  virtual Task<Result<std::shared_ptr<Link>>> accept_through(std::string relay,
                                                             wire::RelayTicket ticket,
                                                             TimePoint deadline) {
    static_cast<void>(ticket);
    static_cast<void>(deadline);
    co_return Error{Errc::unsupported, "nobody is met through " + relay + " here"};
  }

  /// Null where links cannot be spliced.
  virtual Relay* relay() noexcept { return nullptr; }
};

}  // namespace farmesh::net
