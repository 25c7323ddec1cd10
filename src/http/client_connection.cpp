#include "http/client_connection.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace farmesh::http {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;

TimePoint now() noexcept { return std::chrono::steady_clock::now(); }

struct FreeAddresses {
  void operator()(addrinfo* list) const noexcept { freeaddrinfo(list); }
};

Result<std::unique_ptr<addrinfo, FreeAddresses>> look_up(const std::string& host,
                                                         std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int problem = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (problem != 0) {
    return Error{Errc::address_invalid, host + ": " + std::string(gai_strerror(problem))};
  }
  return std::unique_ptr<addrinfo, FreeAddresses>(list);
}

/// A connected socket, or why there is none.
Result<int> connect_to(const addrinfo& address, TimePoint deadline, const Patience& patience) {
  const int descriptor = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return Error{Errc::io_error, std::strerror(errno)};
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Result<void> outcome;
  if (::connect(descriptor, address.ai_addr, address.ai_addrlen) != 0) {
    int problem = errno;
    if (problem == EINPROGRESS) {
      outcome = patience.wait(descriptor, POLLOUT, deadline);
      socklen_t size = sizeof(problem);
      ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &size);
    }
    if (outcome && problem != 0) outcome = {Errc::connection_refused, std::strerror(problem)};
  }
  if (outcome) return descriptor;
  ::close(descriptor);
  return outcome.error();
}

/// The first of the name's addresses that can be connected to.
Result<int> connect_to_any(const Url& at, TimePoint deadline, const Patience& patience) {
  const auto addresses = look_up(at.host, at.port);
  if (!addresses) return addresses.error();
  Error last{Errc::address_invalid, at.host + ": no address"};
  for (const addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
    auto descriptor = connect_to(*address, deadline, patience);
    if (descriptor) return descriptor;
    last = {descriptor.error().code, at.authority() + ": " + descriptor.error().detail};
    if (last.code == Errc::cancelled || now() >= deadline) break;
  }
  return last;
}

}  // namespace

Result<void> Patience::wait(int descriptor, short events, TimePoint deadline) const {
  deadline = std::min(deadline, total);
  for (;;) {
    if (cancellation.cancelled()) return Error{Errc::cancelled, "the HTTP call"};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now()).count();
    if (left <= 0) return Error{Errc::timeout, "the HTTP call"};
    std::array<pollfd, 2> watched = {
        {{descriptor, events, 0}, {cancellation.descriptor(), POLLIN, 0}}};
    const int most = static_cast<int>(std::min<std::int64_t>(left, 3'600'000));
    if (::poll(watched.data(), watched.size(), most) > 0 && watched[0].revents != 0) return {};
  }
}

std::string basic_credentials(std::string_view user_info) {
  std::string encoded(4 * (user_info.size() + 2) / 3 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(user_info.data()),
                                   static_cast<int>(user_info.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return "Basic " + encoded;
}

Result<std::unique_ptr<ClientConnection>> ClientConnection::open(const Url& url,
                                                                 const std::optional<Url>& proxy,
                                                                 std::shared_ptr<TlsContext> tls,
                                                                 const ClientOptions& options,
                                                                 const Patience& patience) {
  const TimePoint deadline = now() + options.connect_timeout;
  const auto descriptor = connect_to_any(proxy ? *proxy : url, deadline, patience);
  if (!descriptor) return descriptor.error();
  std::unique_ptr<ClientConnection> made(new ClientConnection(*descriptor, options));
  if (!url.secure()) return made;
  if (proxy) {
    const Patience to_proxy{patience.cancellation, std::min(deadline, patience.total)};
    if (const auto opened = made->tunnel(url, *proxy, to_proxy); !opened) return opened.error();
  }
  if (auto set = made->channel_.secure_as_client(std::move(tls), url.host); !set)
    return set.error();
  if (auto shaken = made->shake_hands(deadline, patience); !shaken) return shaken.error();
  return made;
}

/// Asks the proxy to pass bytes on (CONNECT, RFC 9110 section 9.3.6).
Result<void> ClientConnection::tunnel(const Url& url, const Url& proxy, const Patience& patience) {
  const std::string host =
      url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  const std::string target = host + ":" + std::to_string(url.port);
  std::string request = "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n";
  if (!proxy.user_info.empty()) {
    request += "Proxy-Authorization: " + basic_credentials(proxy.user_info) + "\r\n";
  }
  if (auto sent = send(request + "\r\n", patience); !sent) return sent;
  // Like HEAD's, its answer has no body.
  const auto head = receive_head("HEAD", patience);
  if (!head) return head.error();
  if (head->status / 100 != 2 || !buffer_.empty()) {
    return Error{Errc::connection_refused, "the proxy answers " + std::to_string(head->status)};
  }
  return {};
}

Result<void> ClientConnection::shake_hands(TimePoint deadline, const Patience& patience) {
  for (;;) {
    const Io io = channel_.handshake();
    if (io == Io::done) return {};
    if (io == Io::end || io == Io::failed) {
      return Error{Errc::tls_failed, channel_.handshake_problem()};
    }
    const short events = io == Io::want_read ? POLLIN : POLLOUT;
    if (auto waited = patience.wait(channel_.descriptor(), events, deadline); !waited)
      return waited;
  }
}

Result<void> ClientConnection::send(std::string_view bytes, const Patience& patience) {
  silent_ = true;
  while (!bytes.empty()) {
    if (patience.cancellation.cancelled()) return Error{Errc::cancelled, "the HTTP call"};
    const Moved moved = channel_.write(bytes);
    if (moved.status == Io::done) {
      bytes.remove_prefix(moved.bytes);
      continue;
    }
    if (moved.status == Io::end || moved.status == Io::failed) {
      return Error{Errc::connection_lost, "while the request was sent"};
    }
    const short events = moved.status == Io::want_read ? POLLIN : POLLOUT;
    const TimePoint deadline = now() + options_.read_timeout;
    if (auto waited = patience.wait(channel_.descriptor(), events, deadline); !waited)
      return waited;
  }
  return {};
}

Result<bool> ClientConnection::fill(const Patience& patience) {
  const TimePoint deadline = now() + options_.read_timeout;
  const std::size_t had = buffer_.size();
  for (;;) {
    if (patience.cancellation.cancelled()) return Error{Errc::cancelled, "the HTTP call"};
    buffer_.resize(had + kReadBytes);
    const Moved moved = channel_.read(std::span(buffer_).subspan(had));
    buffer_.resize(had + moved.bytes);
    switch (moved.status) {
      case Io::done: silent_ = false; return true;
      case Io::end: return false;
      case Io::failed: return Error{Errc::connection_lost, "while the answer was awaited"};
      case Io::want_read:
      case Io::want_write: break;
    }
    const short events = moved.status == Io::want_read ? POLLIN : POLLOUT;
    if (auto waited = patience.wait(channel_.descriptor(), events, deadline); !waited) {
      return waited.error();
    }
  }
}

Result<ResponseHead> ClientConnection::receive_head(std::string_view method,
                                                    const Patience& patience) {
  HeadScanner scanner;
  for (;;) {
    switch (scanner.scan(buffer_)) {
      case HeadScanner::Found::malformed: return Error{Errc::bad_http, "the answer's head"};
      case HeadScanner::Found::complete: {
        auto head = read_response_head(std::string_view(buffer_).substr(0, scanner.size()), method);
        buffer_.erase(0, scanner.size());
        if (!head || head->status >= 200) return head;
        if (head->status == 101) return Error{Errc::bad_http, "an upgrade nobody asked for"};
        scanner = {};
        continue;
      }
      case HeadScanner::Found::more: break;
    }
    if (buffer_.size() > options_.max_head_bytes) {
      return Error{Errc::frame_too_large, "the answer's headers"};
    }
    const auto more = fill(patience);
    if (!more) return more.error();
    if (!*more) return Error{Errc::connection_lost, "before the answer"};
  }
}

Result<void> ClientConnection::receive_body(Framing framing, const Sink& sink,
                                            const Patience& patience) {
  BodyReader body(framing);
  for (;;) {
    std::string_view rest = buffer_;
    while (!body.complete() && !rest.empty()) {
      const BodyReader::Piece piece = body.next(rest);
      if (piece.consumed == 0) break;
      rest.remove_prefix(piece.consumed);
      if (piece.data.empty()) continue;
      if (auto taken = sink(piece.data); !taken) return taken;
    }
    buffer_.erase(0, buffer_.size() - rest.size());
    if (body.malformed()) return Error{Errc::bad_http, "the answer's chunks"};
    if (body.complete()) return {};
    const auto more = fill(patience);
    if (!more) return more.error();
    if (*more) continue;
    if (body.until_end()) return {};
    return Error{Errc::connection_lost, "in the middle of the answer"};
  }
}

bool ClientConnection::is_reusable() {
  pollfd watched{channel_.descriptor(), POLLIN, 0};
  return buffer_.empty() && ::poll(&watched, 1, 0) == 0;
}

}  // namespace farmesh::http
