#include "cli/bench_clients.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace farmesh::cli {
namespace {

// Negative: refused.
int connect_to(std::uint16_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(descriptor);
    return -1;
  }
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return descriptor;
}

bool send_all(int descriptor, std::string_view text) {
  return ::send(descriptor, text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size());
}

Error lost() { return {Errc::connection_lost, "the measured server hung up"}; }

// The life of the process that holds connections. It is the fork of one with threads: nothing here
// allocates or locks. A pipe's end tells it that its parent is gone, or has seen enough.
[[noreturn]] void hold(std::uint16_t port, std::string_view request, int count, int ready,
                       int until) {
  char bytes[1024];
  for (int i = 0; i < count; ++i) {
    const int descriptor = connect_to(port);
    if (descriptor < 0 || !send_all(descriptor, request)) ::_exit(1);
    if (::recv(descriptor, bytes, sizeof(bytes), 0) <= 0) ::_exit(1);
  }
  if (::write(ready, "x", 1) != 1) ::_exit(1);
  while (::read(until, bytes, 1) < 0 && errno == EINTR) {
  }
  ::_exit(0);
}

}  // namespace

Result<BareClient> BareClient::connect(std::uint16_t port) {
  const int descriptor = connect_to(port);
  if (descriptor < 0) return {Errc::connection_refused, "port " + std::to_string(port)};
  return BareClient(descriptor);
}

BareClient::BareClient(BareClient&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), carry_(std::move(other.carry_)) {}

BareClient::~BareClient() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> BareClient::send(std::string_view text) {
  if (send_all(descriptor_, text)) return {};
  return lost();
}

Result<void> BareClient::await(std::string_view mark) {
  while (true) {
    if (const std::size_t at = carry_.find(mark); at != std::string::npos) {
      carry_.erase(0, at + mark.size());
      return {};
    }
    std::array<char, 4096> bytes;
    const ssize_t got = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
    if (got <= 0) return lost();
    carry_.append(bytes.data(), std::size_t(got));
  }
}

Result<int> BareClient::read(std::string_view mark) {
  std::array<char, 4096> bytes;
  const ssize_t got = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
  if (got <= 0) return lost();
  carry_.append(bytes.data(), std::size_t(got));
  int marks = 0;
  std::size_t end = 0;
  for (std::size_t at = 0; (at = carry_.find(mark, end)) != std::string::npos; ++marks) {
    end = at + mark.size();
  }
  carry_.erase(0, end);
  return marks;
}

Result<HeldConnections> HeldConnections::open(std::uint16_t port, std::string_view request,
                                              int count) {
  int to_child[2], from_child[2];
  if (::pipe(to_child) != 0) return {Errc::io_error, "no pipe"};
  if (::pipe(from_child) != 0) {
    ::close(to_child[0]);
    ::close(to_child[1]);
    return {Errc::io_error, "no pipe"};
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(to_child[1]);
    ::close(from_child[0]);
    hold(port, request, count, from_child[1], to_child[0]);
  }
  ::close(to_child[0]);
  ::close(from_child[1]);
  char byte;
  const bool held = child > 0 && ::read(from_child[0], &byte, 1) == 1;
  ::close(from_child[0]);
  HeldConnections connections(child, to_child[1]);
  if (!held) return Error{Errc::connection_lost, "not every connection was taken"};
  return connections;
}

HeldConnections::HeldConnections(HeldConnections&& other) noexcept
    : process_(std::exchange(other.process_, -1)), pipe_(std::exchange(other.pipe_, -1)) {}

HeldConnections::~HeldConnections() {
  if (pipe_ >= 0) ::close(pipe_);
  if (process_ > 0) ::waitpid(process_, nullptr, 0);
}

int raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return int(std::min<rlim_t>(limit.rlim_cur, 1'000'000));
}

}  // namespace farmesh::cli
