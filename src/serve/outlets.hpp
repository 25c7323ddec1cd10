// Where a peer pushes: one connection to each next peer of its sessions' routes.
//
// Takes frames from peer.hpp, dials when the first one comes, and sends them in the order they
// came. A slow receiver is waited for within bounds; what cannot be sent comes back.
// Threading: confined to the transport's executor.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "net/connection.hpp"
#include "net/link.hpp"
#include "wire/frame.hpp"

namespace farmesh::serve {

struct OutletOptions {
  std::chrono::milliseconds dial_timeout{3'000};
  std::uint32_t max_outlets = 1'024;             // more fail with quota unless one is unused
  std::chrono::minutes unused_timeout{5};        // then a connection may be closed
  std::uint64_t max_waiting_bytes = 128u << 20;  // for one receiver, replays aside; then busy
  std::uint32_t max_waiting_parcels = 65'536;    // for one receiver; then busy
  std::uint64_t max_queued_bytes = 8u << 20;     // given to a link before it has sent them
  std::chrono::milliseconds retry{2};            // while a link has that many
  net::ConnectionOptions connection;
};

class Outlets {
 public:
  /// A step on its way to the next peer.
  struct Parcel {
    SessionId session;
    std::uint32_t epoch = 0;
    std::uint32_t position = 0;
    wire::Frame frame;
    std::vector<Payload> parts;    // if any: the frame's payload, joined when it is sent
    std::shared_ptr<void> ticket;  // let go when the parcel was sent or has come back
  };

  struct Handlers {
    /// The parcel was not sent. May be called inside send().
    std::function<void(const std::string& address, const Parcel&, const Error&)> on_undelivered;
    /// A connection that was open has ended; what was sent on it lately may be lost.
    std::function<void(const std::string& address, const Error&)> on_lost;
    /// An error about a session, told by the receiver.
    std::function<void(const std::string& address, const wire::Frame&)> on_error;
  };

  Outlets(net::Transport& transport, net::Connection::Identity identity, OutletOptions options,
          Handlers handlers);
  ~Outlets();  // closes every connection; nothing comes back

  void send(const std::string& address, Parcel parcel);

  /// To a receiver, as its connection measured it; zero when none is open.
  Duration round_trip(const std::string& address) const;
  std::uint32_t connections() const noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace farmesh::serve
