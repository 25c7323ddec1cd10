// Takes requests to other people's servers, gives their answers: JSON-RPC, downloads, upstreams.
//
// Blocking, and cancellable from any thread. HTTP/1.1 with kept-alive connections, TLS 1.2+ with
// verified certificates. Names are resolved by the system's resolver, whose own time limits hold:
// that one step cannot be cancelled.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

#include "http/headers.hpp"

namespace farmesh::http {

/// Ends the calls it was given to, now and later, with Errc::cancelled. Copies are one.
/// Thread-safe.
class Cancellation {
 public:
  Cancellation();
  void cancel() noexcept;
  bool cancelled() const noexcept;
  int descriptor() const noexcept;  // readable once cancelled, for poll()

 private:
  struct State;
  std::shared_ptr<State> state_;
};

struct ClientOptions {
  std::chrono::milliseconds connect_timeout{10'000};  // TCP, proxy and TLS together, an address
  std::chrono::milliseconds read_timeout{30'000};     // between two pieces of the answer
  std::chrono::milliseconds total_timeout{0};         // for the whole exchange; 0: none
  std::size_t max_body_bytes = 8 * 1024 * 1024;       // of an answer that is not streamed
  std::size_t max_head_bytes = 64 * 1024;             // of an answer
  int max_redirects = 0;  // followed for GET and HEAD; an answer of 3xx is returned at 0
  bool proxy_from_environment = true;  // HTTPS_PROXY, HTTP_PROXY, NO_PROXY, in either case
  std::string ca_file;                 // PEM; empty: the system's authorities
  std::string user_agent = "farmesh";
  std::size_t max_idle_connections = 16;  // in all
  std::chrono::milliseconds idle_timeout{20'000};
};

struct ClientRequest {
  std::string method = "GET";
  std::string url;
  Headers headers;
  std::string body;
  /// Asks for [first, last] of the body, inclusive; `last` may be left open. A server that does not
  /// know ranges answers 200 with everything: look at ClientReply::status.
  std::optional<std::uint64_t> range_first, range_last;
};

struct ClientReply {
  int status = 0;
  Headers headers;
  std::string body;  // empty when it was streamed
  std::string url;   // where it came from, after redirects
};

/// Thread-safe; one for the whole program is the idea.
class Client {
 public:
  explicit Client(ClientOptions options = {});
  ~Client();

  /// Any status is a success. Fails with invalid_argument (URL, method or header), address_invalid
  /// (name unknown), connection_refused, connection_lost, timeout, tls_failed, bad_http (the answer
  /// is not HTTP, or redirects without end), frame_too_large (above max_body_bytes), cancelled,
  /// config_invalid (ca_file or proxy setting).
  Result<ClientReply> send(const ClientRequest& request, const Cancellation& cancellation = {});

  /// Given the status and headers once, before the body.
  using OnHead = std::function<bool(const ClientReply&)>;
  /// Given the body in pieces, unbounded in all.
  using OnBody = std::function<bool(std::string_view)>;
  /// As send(), but hands the body on as it comes, on the caller's thread. A callback that returns
  /// false ends the call with cancelled. `on_head` may be empty.
  Result<ClientReply> stream(const ClientRequest& request, const OnHead& on_head,
                             const OnBody& on_body, const Cancellation& cancellation = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::http
