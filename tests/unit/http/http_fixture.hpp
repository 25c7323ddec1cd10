// A server on loopback and a client that may say anything, byte by byte.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/server.hpp"

namespace farmesh::http::test {

using namespace std::chrono_literals;

/// Whether `condition` comes true before ten seconds are over.
inline bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ::poll(nullptr, 0, 1);  // gives the processor to whom it waits for
  }
  return true;
}

inline std::unique_ptr<Server> serve(Router router, ServerOptions options = {}) {
  auto server = Server::start(std::move(router), std::move(options));
  REQUIRE_MESSAGE(server, server.error().to_string());
  return std::move(*server);
}

/// A blocking socket; reads give up after ten seconds, which fails what was expected of them.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port, int receive_buffer_bytes = 0) {
    descriptor_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer_bytes > 0) {
      ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(int));
    }
    const timeval patience{10, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  }
  RawClient(RawClient&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), rest_(std::move(other.rest_)) {}
  ~RawClient() { close(); }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void end_sending() { ::shutdown(descriptor_, SHUT_WR); }
  void close() {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }
  /// Everything up to and including `mark`; what came, if the connection ends before.
  std::string read_until(std::string_view mark) {
    for (;;) {
      if (const std::size_t found = rest_.find(mark); found != std::string::npos) {
        std::string text = rest_.substr(0, found + mark.size());
        rest_.erase(0, text.size());
        return text;
      }
      char bytes[4096];
      const ssize_t got = ::recv(descriptor_, bytes, sizeof(bytes), 0);
      if (got <= 0) {
        ended_ = got == 0;
        return std::exchange(rest_, {});
      }
      rest_.append(bytes, static_cast<std::size_t>(got));
    }
  }
  std::string read_to_end() { return read_until("\x01 never \x01"); }
  bool ended() const { return ended_; }  // cleanly, as the last read saw it
  std::string ask(std::string_view request) { return send(request) ? read_to_end() : ""; }

 private:
  int descriptor_ = -1;
  std::string rest_;
  bool ended_ = false;
};

inline std::string get(std::string_view path, std::string_view headers = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n" + std::string(headers) + "\r\n";
}

inline const std::string kClose = "Connection: close\r\n";

/// The status of an answer that begins `text`; 0 when it is none.
inline int status_of(std::string_view text) {
  if (!text.starts_with("HTTP/1.1 ") || text.size() < 12) return 0;
  return std::stoi(std::string(text.substr(9, 3)));
}

inline std::string body_of(const std::string& text) {
  const std::size_t end = text.find("\r\n\r\n");
  return end == std::string::npos ? "" : text.substr(end + 4);
}

}  // namespace farmesh::http::test
