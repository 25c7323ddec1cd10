// A link that has said hello: requests with answers, pushes, keep-alive, round-trip time.
//
// Takes frames from a Link, gives them to serve/ or driver/ through one handler. Both sides of
// a connection are equal; only the first hello is the dialling side's.
// A connection lives as long as someone holds it; dropping the last reference closes it without
// a callback. Handlers may drop it, or close it, from inside a callback.
// Threading: confined to the transport's executor. No mutex.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <farmesh/result.hpp>

#include "net/link.hpp"
#include "net/task.hpp"
#include "wire/messages.hpp"

namespace farmesh::net {

/// Largest payload taken from a remote that has not said hello.
inline constexpr std::uint32_t kMaxPayloadBeforeHello = 64u << 10;

struct ConnectionOptions {
  std::chrono::milliseconds hello_timeout{5'000};
  std::chrono::milliseconds ping_interval{10'000};  // sent when only pings arrived for so long
  std::chrono::milliseconds ping_timeout{10'000};   // unanswered: the connection is lost
  std::uint32_t max_pending_calls = 4'096;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  /// Gets every frame that is not an answer to call(), hello or ping: requests, answers on a
  /// stream of new_stream(), step replies (stream 0) and errors about a session (stream 0).
  /// A handler that finds the frame wrong calls fail(). Runs on the executor.
  using FrameHandler = std::function<void(const std::shared_ptr<Connection>&, wire::Frame)>;
  /// Called once after a connection that was open has ended, also by close() or fail() of this
  /// side; never inline. A connection that failed before its hello was answered has no call.
  using CloseHandler = std::function<void(const std::shared_ptr<Connection>&, const Error&)>;
  /// What this side says of itself, asked for at each hello and each pong. The node id in hello
  /// is that of the link, where it has one.
  struct Identity {
    std::function<wire::Hello()> hello;
    std::function<wire::Pong()> load;  // may be empty
  };

  /// Dials, says hello, checks versions and that hello names the node whose key the link has
  /// seen, and in a private mesh that the remote may be there. Fails as Transport::dial() does, or
  /// with version_unsupported, identity_mismatch, join_refused or timeout.
  static Task<Result<std::shared_ptr<Connection>>> connect(
      Transport& transport, std::string address, Identity identity, FrameHandler on_frame,
      CloseHandler on_close, TimePoint deadline, ConnectionOptions options = {});
  /// The dialling side over a link that already exists (an in-process pipe).
  static Task<Result<std::shared_ptr<Connection>>> connect_over(
      std::shared_ptr<Link> link, Clock& clock, Identity identity, FrameHandler on_frame,
      CloseHandler on_close, TimePoint deadline, ConnectionOptions options = {});
  /// The accepting side: waits for the remote's hello, answers it, then calls `on_ready`, which
  /// must keep the connection. Before that the connection holds itself, until hello_timeout.
  static void accept(std::shared_ptr<Link> link, Clock& clock, Identity identity,
                     FrameHandler on_frame, CloseHandler on_close,
                     std::function<void(const std::shared_ptr<Connection>&)> on_ready,
                     ConnectionOptions options = {});
  ~Connection();

  /// Sends a request and waits for the answer with its stream. An error frame becomes its
  /// Error. Fails with timeout, connection_lost, closed, busy (too many pending, or the link's
  /// queue is full). An answer that comes after the deadline is dropped.
  Task<Result<wire::Frame>> call(wire::Verb verb, wire::HeaderBytes header, Payload payload,
                                 TimePoint deadline);

  /// Sends without waiting. `stream` 0 unless several frames answer it (generate).
  Result<void> push(wire::Frame frame);
  /// Answers `request`. Nothing is sent when its stream is 0.
  Result<void> reply(const wire::Frame& request, wire::Verb verb, wire::HeaderBytes header,
                     Payload payload = {});
  Result<void> reply_error(const wire::Frame& request, const Error& error);

  /// A stream number no other request of this side uses, for exchanges with many answers. They
  /// go to the frame handler, which also decides which of them is the last.
  std::uint32_t new_stream() noexcept;

  /// The remote broke the protocol: tells it why with an error frame, then closes.
  void fail(Error error);
  /// Idempotent; pending calls end with closed.
  void close();

  bool is_open() const noexcept;
  const wire::Hello& remote() const noexcept;
  const wire::Pong& remote_load() const noexcept;  // as last told; zero before the first pong
  const std::string& address() const noexcept;     // dialled, or the link's remote address
  std::string remote_endpoint() const;             // as the link has it
  std::uint8_t version() const noexcept;
  Duration round_trip() const noexcept;  // EWMA of pings and hello; zero before the first
  std::size_t pending_calls() const noexcept;
  std::size_t queued_bytes() const noexcept;
  Clock& clock() noexcept;

 private:
  struct Impl;
  explicit Connection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::net
