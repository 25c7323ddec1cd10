// A server on loopback that answers each connection with the next of its given bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace farmesh::test {

struct Answer {
  std::vector<std::string> pieces;  // one packet each
  bool hold = false;                // keeps the connection until the client ends it
};

using Answers = std::vector<Answer>;

class ScriptedServer {
 public:
  explicit ScriptedServer(Answers answers) : answers_(std::move(answers)) {
    listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    REQUIRE(::bind(listening_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listening_, 4'096) == 0);
    ::getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() {
    ::shutdown(listening_, SHUT_RDWR);
    if (const int open = open_; open >= 0) ::shutdown(open, SHUT_RDWR);
    thread_.join();
    ::close(listening_);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  /// What came so far, head and body.
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    for (const Answer& answer : answers_) {
      const int client = ::accept(listening_, nullptr, nullptr);
      if (client < 0) return;
      open_ = client;
      const int on = 1;
      ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      std::string request = receive(client);
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(std::move(request));
      }
      for (const std::string& piece : answer.pieces) {
        static_cast<void>(!::send(client, piece.data(), piece.size(), MSG_NOSIGNAL));
      }
      char rest = 0;
      if (answer.hold) static_cast<void>(!::recv(client, &rest, 1, 0));
      open_ = -1;
      ::shutdown(client, SHUT_WR);
      while (!answer.hold && ::recv(client, &rest, 1, 0) > 0) {
      }
      ::close(client);
    }
  }

  static std::string receive(int client) {
    std::string text;
    char bytes[4096];
    for (;;) {
      const std::size_t head = text.find("\r\n\r\n");
      if (head != std::string::npos) {
        const std::size_t length = text.find("Content-Length: ");
        const std::size_t body =
            length < head ? std::stoul(text.substr(length + 16)) : std::size_t(0);
        if (text.size() >= head + 4 + body) return text;
      }
      const ssize_t got = ::recv(client, bytes, sizeof(bytes), 0);
      if (got <= 0) return text;
      text.append(bytes, static_cast<std::size_t>(got));
    }
  }

  const Answers answers_;
  int listening_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> open_ = -1;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

inline const std::string kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// An answer whose body is `json`.
inline Answer reply(const std::string& status, const std::string& json,
                    const std::string& headers = "") {
  return {{"HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nContent-Length: " +
           std::to_string(json.size()) + "\r\nConnection: close\r\n" + headers + "\r\n" + json}};
}

/// An event with number `n` of the request "r".
inline std::string event(int n, const std::string& data) {
  return "id: r:" + std::to_string(n) + "\ndata: " + data + "\n\n";
}

inline std::string text_event(int n, const std::string& text) {
  return event(
      n, R"({"id":"r","choices":[{"index":0,"text":")" + text + R"(","finish_reason":null}]})");
}

/// Items `n` to the end: finish, usage, [DONE].
inline std::string last_events(int n) {
  return event(n, R"({"id":"r","choices":[{"index":0,"text":"","finish_reason":"length"}]})") +
         event(n + 1, R"({"id":"r","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
                      R"("cost_far":"0.0002","nodes_used":[{"node_id":"aa","layers":[0,1,4]}]}})") +
         "data: [DONE]\n\n";
}

}  // namespace farmesh::test
