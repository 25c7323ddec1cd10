// A hub on loopback that serves one folder as HUB/org/name/resolve/main/FILE, with ranges, and does
// wrong what a test tells it to.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.hpp"

namespace farmesh::test {

struct HubRequest {
  std::string path;
  std::string file;           // its last segment
  std::string authorization;  // empty: none was sent
  bool ranged = false;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct HubAnswer {
  int status = 404;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::uint64_t told_length = 0;          // Content-Length
  std::uint64_t sent_bytes = UINT64_MAX;  // of the body, before the connection is cut
  bool held = false;                      // after those, until release()
};

class TestHub {
 public:
  static constexpr const char* kModel = "org/name";
  using Twist = std::function<void(const HubRequest&, HubAnswer&)>;

  /// `twist` may change every answer; called on several threads.
  explicit TestHub(std::filesystem::path folder, Twist twist = {})
      : folder_(std::move(folder)), twist_(std::move(twist)) {
    listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    FARMESH_ASSERT(::bind(listening_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    FARMESH_ASSERT(::listen(listening_, 64) == 0);
    ::getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { accept_all(); });
  }
  ~TestHub() {
    release();
    ::shutdown(listening_, SHUT_RDWR);
    accepting_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int connection : connections_) ::shutdown(connection, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    ::close(listening_);
  }
  TestHub(const TestHub&) = delete;
  TestHub& operator=(const TestHub&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  /// Lets go of every answer that is held, now and later.
  void release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

  std::vector<HubRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  /// Of bodies.
  std::uint64_t bytes_sent() const { return sent_; }
  void forget() {
    const std::lock_guard lock(mutex_);
    requests_.clear();
    sent_ = 0;
  }

 private:
  void accept_all() {
    for (;;) {
      const int connection = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      const std::lock_guard lock(mutex_);
      connections_.insert(connection);
      threads_.emplace_back([this, connection] {
        serve(connection);
        const std::lock_guard leaving(mutex_);
        connections_.erase(connection);
        ::close(connection);
      });
    }
  }

  void serve(int connection) {
    std::string text;
    char bytes[4096];
    for (;;) {
      const ssize_t got = ::recv(connection, bytes, sizeof bytes, 0);
      if (got <= 0) return;
      text.append(bytes, static_cast<std::size_t>(got));
      for (std::size_t end; (end = text.find("\r\n\r\n")) != std::string::npos;) {
        const HubRequest request = read(text.substr(0, end + 2));
        text.erase(0, end + 4);
        if (!answer(connection, request)) return;
      }
    }
  }

  static std::string field(const std::string& head, const std::string& name) {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }

  static HubRequest read(const std::string& head) {
    HubRequest request;
    const std::size_t begin = head.find(' ') + 1;
    request.path = head.substr(begin, head.find(' ', begin) - begin);
    request.file = request.path.substr(request.path.rfind('/') + 1);
    request.authorization = field(head, "Authorization");
    const std::string range = field(head, "Range");
    const std::size_t dash = range.find('-');
    if (range.starts_with("bytes=") && dash != std::string::npos) {
      request.ranged = true;
      request.begin = std::stoull(range.substr(6));
      request.end = std::stoull(range.substr(dash + 1)) + 1;
    }
    return request;
  }

  HubAnswer right_answer(const HubRequest& request) const {
    HubAnswer answer;
    const std::string base = std::string("/") + kModel + "/resolve/main/";
    std::ifstream in(folder_ / request.file, std::ios::binary);
    if (request.path != base + request.file || !in) return answer;
    in.seekg(0, std::ios::end);
    const auto length = static_cast<std::uint64_t>(in.tellg());
    const std::uint64_t begin = std::min(request.ranged ? request.begin : 0, length);
    const std::uint64_t end = std::min(request.ranged ? request.end : length, length);
    in.seekg(static_cast<std::streamoff>(begin));
    answer.body.resize(end - begin);
    in.read(answer.body.data(), static_cast<std::streamsize>(answer.body.size()));
    answer.status = request.ranged ? 206 : 200;
    if (request.ranged && request.begin >= length) answer.status = 416;
    answer.headers = {{"ETag", "\"" + request.file + "\""}};
    if (request.ranged) {
      answer.headers.emplace_back("Content-Range", "bytes " + std::to_string(begin) + "-" +
                                                       std::to_string(end - 1) + "/" +
                                                       std::to_string(length));
    }
    return answer;
  }

  /// False: the connection is over.
  bool answer(int connection, const HubRequest& request) {
    HubAnswer answer = right_answer(request);
    answer.told_length = answer.body.size();
    if (twist_) twist_(request, answer);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " -\r\n";
    for (const auto& [name, value] : answer.headers) head += name + ": " + value + "\r\n";
    head += "Content-Length: " + std::to_string(answer.told_length) + "\r\n\r\n";
    const std::string_view body(answer.body);
    const std::string_view first = body.substr(0, std::min(answer.sent_bytes, body.size()));
    if (!send(connection, head) || !send(connection, first)) return false;
    sent_ += first.size();
    if (first.size() == body.size()) return true;
    if (!answer.held) return false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return released_; });
    }
    sent_ += body.size() - first.size();
    return send(connection, body.substr(first.size()));
  }

  static bool send(int connection, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  const std::filesystem::path folder_;
  const Twist twist_;
  int listening_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<std::uint64_t> sent_ = 0;
  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  bool released_ = false;
  std::vector<HubRequest> requests_;
  std::set<int> connections_;
  std::vector<std::thread> threads_;
  std::thread accepting_;
};

}  // namespace farmesh::test
