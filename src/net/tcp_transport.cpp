#include "net/tcp_transport.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "base/log.hpp"
#include "net/tcp_address.hpp"
#include "net/tcp_link.hpp"

namespace farmesh::net {
namespace {

using asio::ip::tcp;

constexpr std::chrono::milliseconds kAcceptPause{100};  // after the system refused a socket

Error socket_error(const std::error_code& error, const std::string& what) {
  Errc code = Errc::io_error;
  if (error == asio::error::connection_refused) code = Errc::connection_refused;
  if (error == asio::error::timed_out) code = Errc::timeout;
  return {code, what + ": " + error.message()};
}

// Shared by the dialling coroutine and the timer that ends it.
struct Dial {
  explicit Dial(asio::io_context& context) : resolver(context), socket(context) {}

  void expire() {
    expired = true;
    resolver.cancel();
    std::error_code ignored;
    socket.close(ignored);
  }

  tcp::resolver resolver;
  tcp::socket socket;
  bool expired = false;
};

// The acceptor with its loop; the listener that owns it closes it.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(asio::io_context& context, std::shared_ptr<TcpShared> shared,
           std::function<void(std::shared_ptr<Link>)> on_link)
      : shared_(std::move(shared)), acceptor_(context), on_link_(std::move(on_link)) {}

  Result<std::string> open(const tcp::endpoint& endpoint) {
    std::error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error && endpoint.address().is_v6()) {
      acceptor_.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
    }
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
    if (error) return socket_error(error, "cannot listen at " + format_endpoint(endpoint));
    return format_endpoint(acceptor_.local_endpoint(error));
  }

  void accept() {
    acceptor_.async_accept([self = shared_from_this()](std::error_code error, tcp::socket socket) {
      if (!self->acceptor_.is_open()) return;
      if (error) return self->pause(error);
      self->take(std::move(socket));
      self->accept();
    });
  }

  void close() {
    std::error_code ignored;
    acceptor_.close(ignored);
  }

 private:
  void take(tcp::socket socket) {
    std::error_code error;
    const tcp::endpoint remote = socket.remote_endpoint(error);
    if (error) return;  // gone again
    if (shared_->accepted_links >= shared_->limits.max_accepted_links) {
      log(LogLevel::warning, "net", "too many links: refused " + format_endpoint(remote));
      return;
    }
    const auto on_link = on_link_;  // outlives a listener that is destroyed inside
    on_link(make_tcp_link(shared_, std::move(socket), format_endpoint(remote), true));
  }

  // Out of descriptors, most likely: trying again at once would spin.
  void pause(const std::error_code& error) {
    log(LogLevel::warning, "net", "cannot accept: " + error.message());
    shared_->clock.call_at(shared_->clock.now() + kAcceptPause, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self && self->acceptor_.is_open()) self->accept();
    });
  }

  std::shared_ptr<TcpShared> shared_;
  tcp::acceptor acceptor_;
  std::function<void(std::shared_ptr<Link>)> on_link_;
};

class TcpListener final : public Listener {
 public:
  TcpListener(std::shared_ptr<Acceptor> acceptor, std::string address)
      : acceptor_(std::move(acceptor)), address_(std::move(address)) {}
  ~TcpListener() override { acceptor_->close(); }
  const std::string& address() const noexcept override { return address_; }

 private:
  std::shared_ptr<Acceptor> acceptor_;
  std::string address_;
};

class TcpTransport final : public Transport {
 public:
  TcpTransport(asio::io_context& context, Clock& clock, LinkLimits limits)
      : context_(context), shared_(std::make_shared<TcpShared>(clock, limits)) {}
  ~TcpTransport() override { shared_->ended = true; }

  Clock& clock() noexcept override { return shared_->clock; }

  Task<Result<std::shared_ptr<Link>>> dial(std::string address, TimePoint deadline) override {
    const auto dial = std::make_shared<Dial>(context_);
    Clock& clock = shared_->clock;
    if (clock.now() >= deadline) co_return Error{Errc::timeout, "no time left to dial " + address};
    const TimerId timer = clock.call_at(deadline, [dial] { dial->expire(); });
    Task<Result<void>> connecting = connect(dial, address);
    Result<void> connected = co_await std::move(connecting);
    clock.cancel(timer);
    if (dial->expired) co_return Error{Errc::timeout, address + " did not answer"};
    if (!connected) co_return connected.error();
    co_return make_tcp_link(shared_, std::move(dial->socket), std::move(address), false);
  }

  // Resolves a name by asking the system and waiting: listeners are made at start-up.
  Result<std::unique_ptr<Listener>> listen(
      const std::string& address, std::function<void(std::shared_ptr<Link>)> on_link) override {
    const Result<HostPort> place = parse_address(address);
    if (!place) return place.error();
    std::error_code error;
    tcp::resolver resolver(context_);
    const auto found =
        resolver.resolve(place->host, std::to_string(place->port), tcp::resolver::passive, error);
    if (error || found.empty()) {
      return {Errc::address_invalid, place->host + " is not the name of an address"};
    }
    auto acceptor = std::make_shared<Acceptor>(context_, shared_, std::move(on_link));
    Result<std::string> bound = acceptor->open(found.begin()->endpoint());
    if (!bound) return bound.error();
    acceptor->accept();
    return std::unique_ptr<Listener>(
        std::make_unique<TcpListener>(std::move(acceptor), std::move(*bound)));
  }

 private:
  // Tries each address of the host in turn; the error of the last one counts.
  static Task<Result<void>> connect(std::shared_ptr<Dial> dial, std::string address) {
    const Result<HostPort> place = parse_address(address);
    if (!place) co_return place.error();
    if (place->port == 0) co_return Error{Errc::address_invalid, address + " has no port to dial"};
    std::vector<tcp::endpoint> endpoints;
    std::error_code error;
    const auto numeric = asio::ip::make_address(place->host, error);
    if (!error) {
      endpoints.emplace_back(numeric, place->port);
    } else {
      const std::string port = std::to_string(place->port);
      auto resolving = dial->resolver.async_resolve(
          place->host, port, asio::redirect_error(asio::use_awaitable, error));
      const tcp::resolver::results_type found = co_await std::move(resolving);
      for (const auto& entry : found) endpoints.push_back(entry.endpoint());
      if (endpoints.empty()) {
        co_return Error{Errc::address_invalid, place->host + " is not the name of an address"};
      }
    }
    Error last{Errc::io_error, address};
    for (const tcp::endpoint& endpoint : endpoints) {
      if (dial->expired) break;
      std::error_code ignored;
      dial->socket.close(ignored);
      auto connecting =
          dial->socket.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(connecting);
      if (!error) co_return Result<void>();
      last = socket_error(error, address);
    }
    co_return last;
  }

  asio::io_context& context_;
  std::shared_ptr<TcpShared> shared_;
};

}  // namespace

std::unique_ptr<Transport> make_tcp_transport(asio::io_context& context, Clock& clock,
                                              LinkLimits limits) {
  return std::make_unique<TcpTransport>(context, clock, limits);
}

}  // namespace farmesh::net
