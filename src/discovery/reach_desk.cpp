#include "discovery/reach_desk.hpp"

#include <utility>

#include <asio/ip/address.hpp>

#include "base/log.hpp"
#include "discovery/dht.hpp"
#include "net/tcp_address.hpp"

namespace farmesh::discovery {
namespace {

using ConnectionPtr = std::shared_ptr<net::Connection>;

bool is_public(const std::string& address) {
  std::error_code error;
  const auto host = asio::ip::make_address(numeric_host(address), error);
  if (error || host.is_unspecified() || host.is_multicast()) return false;
  return !is_local_address(address);
}

}  // namespace

std::string numeric_host(const std::string& address) {
  const Result<net::HostPort> place = net::parse_address(address);
  if (!place || place->udp || place->port == 0 || !place->relay.empty()) return {};
  std::error_code error;
  const asio::ip::address host = asio::ip::make_address(place->host, error);
  if (error) return {};
  if (host.is_v6() && host.to_v6().is_v4_mapped()) {
    return asio::ip::make_address_v4(asio::ip::v4_mapped, host.to_v6()).to_string();
  }
  return host.to_string();
}

bool may_reach(const std::string& address, const std::string& source,
               const std::string& announced) {
  const std::string host = numeric_host(address);
  if (host.empty() || source.empty()) return false;
  return host == source || (address == announced && is_public(address));
}

struct ReachDesk::State : std::enable_shared_from_this<State> {
  State(net::Transport& t, ReachDeskOptions o)
      : transport(t), options(o), nodes(o.per_node), addresses(o.per_address) {}

  Result<void> may_ask(const net::Connection& connection);
  static net::Task<void> dial(std::shared_ptr<State> self, ConnectionPtr connection,
                              wire::Frame request, std::string address);

  net::Transport& transport;
  const ReachDeskOptions options;
  net::RateBook nodes;
  net::RateBook addresses;
  std::size_t dialling = 0;
  std::uint64_t dials = 0;
  bool closed = false;
};

Result<void> ReachDesk::State::may_ask(const net::Connection& connection) {
  const wire::Hello& asker = connection.remote();
  if (is_unknown(asker.node_id))
    return {Errc::invalid_argument, "only nodes with a key are dialled"};
  if (dialling >= options.max_dials) return {Errc::busy, "others are being dialled"};
  const TimePoint now = transport.clock().now();
  if (!nodes.take(to_string(asker.node_id), now) ||
      !addresses.take(numeric_host(connection.address()), now)) {
    return {Errc::quota, "it was dialled often enough for now"};
  }
  return {};
}

net::Task<void> ReachDesk::State::dial(std::shared_ptr<State> self, ConnectionPtr connection,
                                       wire::Frame request, std::string address) {
  const TimePoint deadline = self->transport.clock().now() + self->options.dial_timeout;
  auto dialling =
      self->transport.dial(address + "/p2p/" + to_string(connection->remote().node_id), deadline);
  const Result<std::shared_ptr<net::Link>> link = co_await std::move(dialling);
  --self->dialling;
  if (link) (*link)->close({Errc::closed, "it was only asked whether this is possible"});
  if (self->closed) co_return;
  if (!link) log(LogLevel::debug, "discovery", "asked to dial: " + link.error().to_string());
  const wire::ReachReply reply{link.has_value(), numeric_host(connection->address())};
  static_cast<void>(connection->reply(request, wire::Verb::reach, wire::encode(reply)));
}

ReachDesk::ReachDesk(net::Transport& transport, ReachDeskOptions options)
    : state_(std::make_shared<State>(transport, options)) {}

ReachDesk::~ReachDesk() { state_->closed = true; }

void ReachDesk::answer(const ConnectionPtr& connection, const wire::Frame& request) {
  const Result<wire::Reach> question = wire::decode<wire::Reach>(request.header);
  if (!question) return connection->fail(question.error());
  const std::string source = numeric_host(connection->address());
  if (source.empty()) {
    static_cast<void>(connection->reply_error(
        request, {Errc::invalid_argument, "it does not see where the question comes from"}));
    return;
  }
  if (!may_reach(question->address, source, connection->remote().listen_address)) {
    const wire::ReachReply reply{false, source};
    static_cast<void>(connection->reply(request, wire::Verb::reach, wire::encode(reply)));
    return;
  }
  if (const Result<void> may = state_->may_ask(*connection); !may) {
    static_cast<void>(connection->reply_error(request, may.error()));
    return;
  }
  ++state_->dialling;
  ++state_->dials;
  net::spawn(state_->transport.clock().executor(), "reach",
             State::dial(state_, connection, request, question->address));
}

std::uint64_t ReachDesk::dials() const noexcept { return state_->dials; }

}  // namespace farmesh::discovery
