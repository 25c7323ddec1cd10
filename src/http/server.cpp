#include "http/server.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_set>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"
#include "http/connection.hpp"
#include "http/loop.hpp"
#include "http/server_state.hpp"

namespace farmesh::http {
namespace {

constexpr int kBacklog = 1024;
constexpr int kSendBufferBytes = 64 * 1024;  // what the kernel holds of a client that reads nothing
constexpr std::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
    "Connection: close\r\n\r\n";

/// As often as the shortest timeout asks for, within reason.
std::chrono::milliseconds tick_period(const ServerOptions& options) {
  const auto shortest = std::min({options.head_timeout, options.body_timeout, options.idle_timeout,
                                  options.write_timeout, options.comment_interval});
  return std::clamp(shortest / 4, std::chrono::milliseconds(5), std::chrono::milliseconds(250));
}

/// A loop and its connections.
struct LoopRoom {
  explicit LoopRoom(std::chrono::milliseconds period)
      : loop("http io", period, [this] { check_all(); }) {}
  ~LoopRoom() {
    // A connection accepted at the last moment comes in by a post of its own: only once nothing is
    // posted any more are these all, and they go before the loop that they refer to.
    loop.stop();
    connections.clear();
  }

  void check_all() {
    const TimePoint now = std::chrono::steady_clock::now();
    for (const auto& connection : connections) connection->check(now);
    std::erase_if(connections, [](const auto& connection) { return connection->is_closed(); });
    if (on_tick) on_tick();
  }

  std::unordered_set<std::shared_ptr<Connection>> connections;  // the loop's thread, while it runs
  std::function<void()> on_tick;
  Loop loop;  // last: its thread ends before what it uses
};

Result<int> listen_at(const ServerOptions& options) {
  const auto address = IpAddress::parse(options.address);
  if (!address) return Error{Errc::address_invalid, "no numeric address: " + options.address};
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_in6);
  if (address->is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(options.port);
    std::memcpy(&v4.sin_addr, address->bytes.data() + 12, 4);
    size = sizeof(sockaddr_in);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(options.port);
    std::memcpy(&v6.sin6_addr, address->bytes.data(), 16);
  }
  const int descriptor = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (!address->is_v4()) ::setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (::bind(descriptor, reinterpret_cast<sockaddr*>(&storage), size) != 0 ||
      ::listen(descriptor, kBacklog) != 0) {
    const std::string why = std::strerror(errno);
    if (descriptor >= 0) ::close(descriptor);
    return Error{Errc::io_error, "cannot listen at " + options.address + ": " + why};
  }
  return descriptor;
}

std::uint16_t port_of(int descriptor) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &size);
  return ntohs(storage.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(storage).sin_port
                                            : reinterpret_cast<sockaddr_in6&>(storage).sin6_port);
}

}  // namespace

struct Server::Impl {
  Impl(Router router, ServerOptions options, IpSet trusted, std::shared_ptr<TlsContext> tls)
      : state(std::move(router), std::move(options), std::move(trusted), std::move(tls)) {
    const int count = std::max(1, state.options->io_threads);
    for (int i = 0; i < count; ++i) {
      rooms.push_back(std::make_unique<LoopRoom>(tick_period(*state.options)));
    }
  }

  /// Accepts on the first loop, and deals connections out to all in turn.
  struct Listener final : Loop::Ready {
    Listener(Impl& server, int listening)
        : impl(server), descriptor(listening), socket(server.rooms[0]->loop, listening) {}
    void on_readable() override { impl.accept_all(); }
    void on_writable() override {}
    Impl& impl;
    int descriptor;
    Loop::Socket socket;
  };

  void accept_all() {
    while (listener) {
      sockaddr_storage address{};
      socklen_t size = sizeof(address);
      const int descriptor = ::accept4(listener->descriptor, reinterpret_cast<sockaddr*>(&address),
                                       &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor >= 0) {
        take(descriptor, IpAddress::of(address));
      } else if (errno == EAGAIN) {
        return listener->socket.await_readable(listener);
      } else if (errno != ECONNABORTED && errno != EINTR) {
        starved = true;  // of descriptors or memory: waiting would report it readable at once
        return;
      }
    }
  }

  void take(int descriptor, IpAddress peer) {
    const int on = 1, buffer = kSendBufferBytes;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
    if (!state.admit(peer)) {
      if (!state.tls)
        static_cast<void>(::send(descriptor, kFull.data(), kFull.size(), MSG_NOSIGNAL));
      ::close(descriptor);
      return;
    }
    LoopRoom& room = *rooms[next_room++ % rooms.size()];
    room.loop.post([this, &room, descriptor, peer] {
      const auto connection = std::make_shared<Connection>(state, room.loop, descriptor, peer);
      room.connections.insert(connection);
      connection->start();
      if (state.draining) connection->drain();
    });
  }

  void stop_listening() {
    rooms[0]->loop.post([this] {
      if (!listener) return;
      listener->socket.release();
      ::close(listener->descriptor);
      listener.reset();
    });
  }

  void for_each_connection(void (Connection::*act)()) {
    for (const auto& room : rooms) {
      room->loop.post([&connections = room->connections, act] {
        for (const auto& connection : connections) (*connection.*act)();
      });
    }
  }

  ServerState state;
  std::shared_ptr<Listener> listener;  // the first loop's thread only, once started
  std::size_t next_room = 0;
  bool starved = false;  // the next tick accepts again
  std::uint16_t port = 0;
  std::vector<std::unique_ptr<LoopRoom>> rooms;  // last: their threads end before what they use
};

Server::Server(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::start(Router router, ServerOptions options) {
  auto trusted = IpSet::parse(options.trusted_proxies);
  if (!trusted) return trusted.error();
  std::shared_ptr<TlsContext> tls;
  if (options.cert_file.empty() != options.key_file.empty()) {
    return Error{Errc::config_invalid, "TLS needs a certificate and its key"};
  }
  if (!options.cert_file.empty()) {
    auto context = TlsContext::server(options.cert_file, options.key_file);
    if (!context) return context.error();
    tls = std::move(*context);
  }
  const auto listening = listen_at(options);
  if (!listening) return listening.error();

  auto impl = std::make_unique<Impl>(std::move(router), std::move(options), std::move(*trusted),
                                     std::move(tls));
  impl->port = port_of(*listening);
  impl->rooms[0]->loop.post([impl = impl.get(), descriptor = *listening] {
    impl->listener = std::make_shared<Impl::Listener>(*impl, descriptor);
    impl->rooms[0]->on_tick = [impl] {
      if (std::exchange(impl->starved, false)) impl->accept_all();
    };
    impl->accept_all();
  });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() { drain(std::chrono::milliseconds(0)); }

std::uint16_t Server::port() const noexcept { return impl_->port; }
ServerStats Server::stats() const { return impl_->state.stats(); }
bool Server::draining() const noexcept { return impl_->state.draining; }

void Server::drain(std::chrono::milliseconds patience) {
  impl_->state.draining = true;
  impl_->stop_listening();
  impl_->for_each_connection(&Connection::drain);
  if (impl_->state.wait_for_none(patience)) return;
  // Again and again: a connection may just have been accepted.
  do {
    impl_->for_each_connection(&Connection::close);
  } while (!impl_->state.wait_for_none(std::chrono::milliseconds(50)));
}

}  // namespace farmesh::http
