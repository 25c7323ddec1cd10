// Takes connections from anyone, gives requests to handlers and their answers back.
//
// HTTP/1.1 and 1.0, plain or over TLS. Every size, count and time that a stranger controls is
// bounded here. Threads: `io_threads` that read, write and time, and workers that run the handlers;
// a handler never runs on an I/O thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "http/router.hpp"

namespace farmesh::http {

/// What became of a request, for logs and metrics.
struct Finished {
  std::string_view method;
  std::string_view route;  // the pattern; empty when none matched
  std::string_view request_id;
  std::string_view remote_address;
  int status = 0;
  bool cut = false;                       // the connection ended before the answer was complete
  std::chrono::microseconds duration{0};  // from the request's first byte to the answer's last
  std::uint64_t bytes_sent = 0;
};

struct ServerOptions {
  std::string address = "127.0.0.1";         // numeric; "::" takes IPv4 too
  std::uint16_t port = 0;                    // 0: the system chooses, Server::port() tells
  std::string cert_file, key_file;           // PEM, both or neither; TLS 1.2 and 1.3
  std::vector<std::string> trusted_proxies;  // addresses or "10.0.0.0/8"
  CorsOptions cors;

  int io_threads = 1;
  int workers = 8;              // threads for handlers that answer at once
  int max_queued = 256;         // requests that wait for such a thread; 503 beyond
  int max_long_requests = 256;  // handlers marked long_running, each on its thread; 503 beyond

  std::size_t max_head_bytes = 16 * 1024;  // request line and headers, of any one request
  std::size_t max_target_bytes = 8 * 1024;
  std::size_t max_headers = 100;
  std::size_t max_pipelined_bytes = 64 * 1024;  // read ahead of the request that is being answered
  std::size_t max_body_bytes_in_all = 256 * 1024 * 1024;  // of all requests not yet answered
  std::size_t max_queued_bytes = 64 * 1024;               // of a stream, before its writer waits
  int max_connections = 12'000;
  int max_connections_per_address = 256;  // an IPv6 /64 counts as one; trusted proxies do not count

  std::chrono::milliseconds head_timeout{10'000};   // TLS handshake; first byte to the last header
  std::chrono::milliseconds body_timeout{60'000};   // from the last header to the last body byte
  std::chrono::milliseconds idle_timeout{75'000};   // between requests
  std::chrono::milliseconds write_timeout{30'000};  // without the client taking a byte
  std::chrono::milliseconds comment_interval{15'000};  // of silence on a stream

  /// The body of a refusal; by default {"error":message,"code":code}. Thread-safe. `path` is the
  /// request's, empty when it could not be read.
  std::function<Reply(const Problem& problem, std::string_view path)> render;
  /// Called on an I/O thread after each answer; short, must not throw.
  std::function<void(const Finished&)> on_finished;
};

struct ServerStats {
  int connections = 0;
  int requests = 0;       // being received or answered
  int long_requests = 0;  // handlers on threads of their own
  std::uint64_t refused_connections = 0;
};

/// Thread-safe.
class Server {
 public:
  /// Listens and serves at once. Fails with address_invalid, io_error (the address is taken),
  /// config_invalid (certificate, key or proxy list).
  static Result<std::unique_ptr<Server>> start(Router router, ServerOptions options);
  /// As drain() without patience. Waits for handlers: they must end when their exchange is closed.
  ~Server();

  std::uint16_t port() const noexcept;
  ServerStats stats() const;

  /// Stops accepting, lets running requests finish for `patience`, cuts off what is left, and
  /// returns when no connection is open. May be called again. Not from a handler.
  void drain(std::chrono::milliseconds patience);
  bool draining() const noexcept;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::http
