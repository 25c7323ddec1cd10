#include "net/tcp_transport.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>
#include <asio/read.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "base/log.hpp"
#include "net/relay_dial.hpp"
#include "net/tcp_address.hpp"
#include "net/tcp_link.hpp"
#include "net/tls_handshake.hpp"
#include "wire/messages.hpp"

namespace farmesh::net {
namespace {

using asio::ip::tcp;

constexpr std::chrono::milliseconds kAcceptPause{100};  // after the system refused a socket
constexpr std::chrono::seconds kTurnAwayTime{1};
constexpr int kMaxTurnedAway = 64;  // told so at once; more are just closed

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

// What one address is counted by: of version 6, the network that one household or machine has.
std::string counted_as(const asio::ip::address& address) {
  if (!address.is_v6() || address.to_v6().is_v4_mapped()) return address.to_string();
  auto bytes = address.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
  return asio::ip::address_v6(bytes).to_string() + "/64";
}

// A socket that has been accepted, until it has become a link.
struct Arrival {
  Arrival(tcp::socket s, std::string from) : socket(std::move(s)), remote(std::move(from)) {}

  void expire() {
    std::error_code ignored;
    socket.close(ignored);
  }

  tcp::socket socket;
  std::string remote;
  std::optional<AcceptGate::Ticket> ticket;
};

// Whether a ticket for the relay comes, instead of TLS. Only looks.
Task<bool> brings_ticket(tcp::socket& socket) {
  std::error_code error;
  auto waiting =
      socket.async_wait(tcp::socket::wait_read, asio::redirect_error(asio::use_awaitable, error));
  co_await std::move(waiting);
  if (error) co_return false;
  std::byte first{};
  const std::size_t bytes =
      socket.receive(asio::buffer(&first, 1), tcp::socket::message_peek, error);
  co_return !error && bytes == 1 && first == wire::kPreambleBegins;
}

Task<std::optional<wire::RelayTicket>> read_ticket(tcp::socket& socket) {
  std::array<std::byte, wire::kPreambleBytes> preamble{};
  std::error_code error;
  auto reading = asio::async_read(socket, asio::buffer(preamble),
                                  asio::redirect_error(asio::use_awaitable, error));
  co_await std::move(reading);
  if (error) co_return std::nullopt;
  co_return wire::decode_preamble(preamble);
}

// Tells a remote that has shaken hands why it gets no further.
void refuse(Link& link, const Error& error) {
  wire::ErrorMessage message;
  message.code = error.code;
  message.detail = error.detail;
  wire::Frame frame;
  frame.verb = wire::Verb::error;
  frame.header = wire::encode(message);
  static_cast<void>(link.send(std::move(frame)));  // a courtesy
  link.close(error);
}

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
    auto arrival = std::make_shared<Arrival>(std::move(socket), format_endpoint(remote));
    Result<AcceptGate::Ticket> ticket =
        shared_->gate.admit(counted_as(remote.address()), shared_->clock.now());
    if (!ticket) {
      log(LogLevel::debug, "net", "refused " + arrival->remote + ": " + ticket.error().to_string());
      if (turned_away_ >= kMaxTurnedAway) return;
      ++turned_away_;
      spawn(acceptor_.get_executor(), "turn away", turn_away(shared_from_this(), arrival));
      return;
    }
    arrival->ticket.emplace(std::move(*ticket));
    spawn(acceptor_.get_executor(), "welcome", welcome(shared_from_this(), arrival));
  }

  static Task<void> welcome(std::shared_ptr<Acceptor> self, std::shared_ptr<Arrival> arrival) {
    Clock& clock = self->shared_->clock;
    const TimerId timer =
        clock.call_at(clock.now() + kHandshakeTimeout, [arrival] { arrival->expire(); });
    Task<bool> looking = brings_ticket(arrival->socket);
    const bool ticket_comes = co_await std::move(looking);
    if (ticket_comes) {
      Task<std::optional<wire::RelayTicket>> reading = read_ticket(arrival->socket);
      const std::optional<wire::RelayTicket> ticket = co_await std::move(reading);
      clock.cancel(timer);
      if (!self->acceptor_.is_open() || !ticket) co_return;
      self->shared_->relay.arrived(*ticket, std::move(arrival->socket),
                                   std::move(*arrival->ticket));
      co_return;
    }
    auto session = std::make_unique<TlsSession>(self->shared_->tls, TlsSession::Side::accepting);
    Task<Result<void>> shaking = shake_hands(arrival->socket, *session);
    const Result<void> shaken = co_await std::move(shaking);
    clock.cancel(timer);
    if (!self->acceptor_.is_open()) co_return;
    if (!shaken) {
      log(LogLevel::debug, "net",
          "no link from " + arrival->remote + ": " + shaken.error().to_string());
      co_return;
    }
    const Result<void> known = arrival->ticket->identify(session->remote_id());
    const std::shared_ptr<Link> link =
        make_tcp_link(self->shared_, std::move(arrival->socket), std::move(session),
                      std::move(arrival->remote), std::move(arrival->ticket));
    if (!known) {
      refuse(*link, known.error());
      co_return;
    }
    const auto on_link = self->on_link_;  // outlives a listener that is destroyed inside
    on_link(link);
  }

  // Says no in the words of TLS, which costs nothing, and waits a moment for the remote to read
  // it: closing before would lose it.
  static Task<void> turn_away(std::shared_ptr<Acceptor> self, std::shared_ptr<Arrival> arrival) {
    Clock& clock = self->shared_->clock;
    const TimerId timer =
        clock.call_at(clock.now() + kTurnAwayTime, [arrival] { arrival->expire(); });
    Task<void> refusing = refuse_handshake(arrival->socket);
    co_await std::move(refusing);
    clock.cancel(timer);
    --self->turned_away_;
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
  int turned_away_ = 0;
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
  TcpTransport(asio::io_context& context, Clock& clock, const identity::Credentials& self,
               LinkLimits limits)
      : context_(context), shared_(std::make_shared<TcpShared>(clock, limits, self)) {}
  ~TcpTransport() override {
    shared_->ended = true;
    shared_->relay.end();
  }

  Clock& clock() noexcept override { return shared_->clock; }

  Relay* relay() noexcept override { return &shared_->relay; }

  Task<Result<std::shared_ptr<Link>>> dial(std::string address, TimePoint deadline) override {
    const Result<HostPort> place = parse_address(address);
    if (!place) co_return place.error();
    std::optional<wire::RelayTicket> ticket;
    if (!place->relay.empty()) {
      Task<Result<wire::RelayTicket>> asking = ask_relay(*this, place->relay, *place->id, deadline);
      const Result<wire::RelayTicket> told = co_await std::move(asking);
      if (!told) {
        co_return Error{told.error().code, "relay " + place->relay + ": " + told.error().detail};
      }
      ticket = *told;
    }
    Task<Result<Met>> meeting = meet(*place, address, ticket, TlsSession::Side::dialling, deadline);
    Result<Met> met = co_await std::move(meeting);
    if (!met) co_return met.error();
    if (place->id && *place->id != met->session->remote_id()) {
      co_return Error{Errc::identity_mismatch, address + " is answered by node " +
                                                   short_name(met->session->remote_id()) +
                                                   ", not " + short_name(*place->id)};
    }
    co_return make_tcp_link(shared_, std::move(met->dial->socket), std::move(met->session),
                            std::move(address), std::nullopt);
  }

  Task<Result<std::shared_ptr<Link>>> accept_through(std::string relay, wire::RelayTicket ticket,
                                                     TimePoint deadline) override {
    const Result<HostPort> place = parse_address(relay);
    if (!place) co_return place.error();
    Task<Result<Met>> meeting = meet(*place, relay, ticket, TlsSession::Side::accepting, deadline);
    Result<Met> met = co_await std::move(meeting);
    if (!met) co_return met.error();
    std::error_code error;
    const tcp::endpoint remote = met->dial->socket.remote_endpoint(error);
    if (error) co_return Error{Errc::connection_lost, relay + ": " + error.message()};
    // Bounded like those that come by themselves: as many as one address and one key may have.
    Result<AcceptGate::Ticket> admitted =
        shared_->gate.admit(counted_as(remote.address()), shared_->clock.now());
    if (!admitted) co_return admitted.error();
    const Result<void> known = admitted->identify(met->session->remote_id());
    std::shared_ptr<Link> link = make_tcp_link(
        shared_, std::move(met->dial->socket), std::move(met->session),
        relay + std::string(kCircuit), std::optional<AcceptGate::Ticket>(std::move(*admitted)));
    if (!known) {
      refuse(*link, known.error());
      co_return known.error();
    }
    co_return link;
  }

  // Resolves a name by asking the system and waiting: listeners are made at start-up.
  Result<std::unique_ptr<Listener>> listen(
      const std::string& address, std::function<void(std::shared_ptr<Link>)> on_link) override {
    const Result<HostPort> place = parse_address(address);
    if (!place) return place.error();
    if (place->udp || !place->relay.empty()) {
      return {Errc::address_invalid, address + " is no TCP address of one's own"};
    }
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

  Task<Result<std::vector<std::string>>> resolve(std::string address, TimePoint deadline) override {
    const Result<HostPort> place = parse_address(address);
    if (!place) co_return place.error();
    const auto dial = std::make_shared<Dial>(context_);
    const TimerId timer = shared_->clock.call_at(deadline, [dial] { dial->expire(); });
    Task<std::vector<tcp::endpoint>> looking = endpoints_of(dial, *place);
    const std::vector<tcp::endpoint> found = co_await std::move(looking);
    shared_->clock.cancel(timer);
    if (dial->expired) co_return Error{Errc::timeout, place->host + " is not resolved in time"};
    if (found.empty()) co_return no_address(*place);
    std::vector<std::string> addresses;
    for (const tcp::endpoint& endpoint : found) addresses.push_back(format_endpoint(endpoint));
    co_return addresses;
  }

 private:
  // A socket with whoever proved a key at its other end.
  struct Met {
    std::shared_ptr<Dial> dial;
    std::unique_ptr<TlsSession> session;
  };

  // With a ticket the other end is whom the relay at `place` splices this to.
  Task<Result<Met>> meet(HostPort place, std::string address,
                         std::optional<wire::RelayTicket> ticket, TlsSession::Side side,
                         TimePoint deadline) {
    if (place.udp || place.port == 0) {
      co_return Error{Errc::address_invalid, address + " has no TCP port to dial"};
    }
    Met met{std::make_shared<Dial>(context_), std::make_unique<TlsSession>(shared_->tls, side)};
    Clock& clock = shared_->clock;
    if (clock.now() >= deadline) co_return Error{Errc::timeout, "no time left to dial " + address};
    const TimerId timer = clock.call_at(deadline, [dial = met.dial] { dial->expire(); });
    Task<Result<void>> connecting = connect(met.dial, *met.session, place, address, ticket);
    const Result<void> connected = co_await std::move(connecting);
    clock.cancel(timer);
    if (met.dial->expired) co_return Error{Errc::timeout, address + " did not answer"};
    if (!connected) co_return connected.error();
    co_return std::move(met);
  }

  static Task<Result<void>> connect(std::shared_ptr<Dial> dial, TlsSession& session, HostPort place,
                                    std::string address, std::optional<wire::RelayTicket> ticket) {
    Task<Result<void>> connecting = connect_socket(dial, place, address);
    const Result<void> connected = co_await std::move(connecting);
    if (!connected) co_return connected.error();
    if (ticket) {
      const auto preamble = wire::encode_preamble(*ticket);
      std::error_code error;
      auto writing = asio::async_write(dial->socket, asio::buffer(preamble),
                                       asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(writing);
      if (error) co_return socket_error(error, address);
    }
    Task<Result<void>> shaking = shake_hands(dial->socket, session);
    const Result<void> shaken = co_await std::move(shaking);
    if (!shaken) co_return Error{shaken.error().code, address + ": " + shaken.error().detail};
    co_return Result<void>();
  }

  static Error no_address(const HostPort& place) {
    return {Errc::address_invalid, place.host + " is not the name of an address"};
  }

  // Of the host, by asking the system where it is a name; none where there are none.
  static Task<std::vector<tcp::endpoint>> endpoints_of(std::shared_ptr<Dial> dial, HostPort place) {
    std::vector<tcp::endpoint> endpoints;
    std::error_code error;
    const auto numeric = asio::ip::make_address(place.host, error);
    if (!error) {
      endpoints.emplace_back(numeric, place.port);
      co_return endpoints;
    }
    const std::string port = std::to_string(place.port);
    auto resolving = dial->resolver.async_resolve(place.host, port,
                                                  asio::redirect_error(asio::use_awaitable, error));
    const tcp::resolver::results_type found = co_await std::move(resolving);
    for (const auto& entry : found) endpoints.push_back(entry.endpoint());
    co_return endpoints;
  }

  // Tries each address of the host in turn; the error of the last one counts.
  static Task<Result<void>> connect_socket(std::shared_ptr<Dial> dial, HostPort place,
                                           std::string address) {
    Task<std::vector<tcp::endpoint>> looking = endpoints_of(dial, place);
    const std::vector<tcp::endpoint> endpoints = co_await std::move(looking);
    if (endpoints.empty()) co_return no_address(place);
    std::error_code error;
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
                                              const identity::Credentials& self,
                                              LinkLimits limits) {
  return std::make_unique<TcpTransport>(context, clock, self, limits);
}

}  // namespace farmesh::net
