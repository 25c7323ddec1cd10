// An ordered, two-way pipe of frames to one remote, and what makes such pipes.
//
// Implementations: TCP (tcp_transport.hpp), inside one process (pipe in sim_transport.hpp), and
// a simulated network with delay, loss of links and death (sim_transport.hpp).
// Threading: confined to the transport's executor.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include <farmesh/result.hpp>

#include "base/types.hpp"
#include "net/clock.hpp"
#include "net/task.hpp"
#include "wire/frame.hpp"

namespace farmesh::net {

struct LinkLimits {
  std::size_t max_queued_bytes = 128u << 20;  // send() beyond this fails with busy
};

class Link {
 public:
  virtual ~Link() = default;

  /// Begins to deliver. Call once. `on_frame` gets frames in order; `on_close` is called once,
  /// when the link has ended for any reason but the destructor, and nothing follows it. Both
  /// run on the executor, never inside start() or send().
  virtual void start(std::function<void(wire::Frame)> on_frame,
                     std::function<void(Error)> on_close) = 0;

  /// Queues a frame; the payload's memory is shared, not copied. Fails with busy (queue full)
  /// or closed / connection_lost (the link has ended).
  virtual Result<void> send(wire::Frame frame) = 0;

  virtual std::size_t queued_bytes() const noexcept = 0;
  virtual bool is_open() const noexcept = 0;

  /// Idempotent. Frames already queued may be lost; the remote sees connection_lost.
  virtual void close(Error reason) = 0;

  virtual const std::string& remote_address() const noexcept = 0;
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

  /// `address` is "HOST:PORT" ("[v6]:PORT"). Fails with address_invalid, connection_refused,
  /// timeout, io_error.
  virtual Task<Result<std::shared_ptr<Link>>> dial(std::string address, TimePoint deadline) = 0;

  virtual Result<std::unique_ptr<Listener>> listen(
      const std::string& address, std::function<void(std::shared_ptr<Link>)> on_link) = 0;
};

}  // namespace farmesh::net
