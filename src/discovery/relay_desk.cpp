#include "discovery/relay_desk.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/log.hpp"
#include "net/relay.hpp"

namespace farmesh::discovery {
namespace {

/// Whom rates count: an address without its port.
std::string host_of(const std::string& address) { return address.substr(0, address.rfind(':')); }

}  // namespace

RelayDesk::RelayDesk(net::Transport& transport, RelayDeskOptions options)
    : transport_(transport), nodes_(options.per_node), addresses_(options.per_address) {}

std::size_t RelayDesk::kept() {
  std::erase_if(kept_, [](const auto& one) {
    const auto connection = one.second.lock();
    return !connection || !connection->is_open();
  });
  return kept_.size();
}

Result<wire::RelayReply> RelayDesk::keep(const ConnectionPtr& connection) {
  const NodeId& node = connection->remote().node_id;
  if (kept() >= transport_.relay()->limits().sessions && !kept_.contains(node)) {
    return {Errc::quota, "as many nodes as it keeps"};
  }
  const std::string from = host_of(connection->address());
  const auto of_address = std::count_if(kept_.begin(), kept_.end(), [&](const auto& one) {
    const auto other = one.second.lock();
    return other && one.first != node && host_of(other->address()) == from;
  });
  if (of_address >= std::max<std::ptrdiff_t>(1, transport_.relay()->limits().sessions / 2)) {
    return {Errc::quota, "as many nodes as it keeps of one address"};
  }
  kept_[node] = connection;
  log(LogLevel::info, "relay", "node " + short_name(node) + " is reached through this one");
  return wire::RelayReply{};
}

Result<wire::RelayReply> RelayDesk::bring(const ConnectionPtr& connection, const NodeId& node) {
  const NodeId& dialler = connection->remote().node_id;
  const TimePoint now = transport_.clock().now();
  if (!nodes_.take(to_string(dialler), now) ||
      !addresses_.take(host_of(connection->address()), now)) {
    return {Errc::quota, "it was asked for tickets too often"};
  }
  const auto known = kept_.find(node);
  const ConnectionPtr hidden = known == kept_.end() ? nullptr : known->second.lock();
  if (!hidden || !hidden->is_open()) {
    return {Errc::connection_refused, "node " + short_name(node) + " is not connected to it"};
  }
  const auto tickets = transport_.relay()->reserve(dialler, node);
  if (!tickets) return tickets.error();
  wire::Frame frame;
  frame.verb = wire::Verb::relay;
  frame.header = wire::encode(wire::Relay{dialler, tickets->hidden});
  if (const Result<void> told = hidden->push(std::move(frame)); !told) return told.error();
  return wire::RelayReply{tickets->dialler};
}

void RelayDesk::answer(const ConnectionPtr& connection, const wire::Frame& request) {
  const Result<wire::Relay> message = wire::decode<wire::Relay>(request.header);
  if (!message) return connection->fail(message.error());
  Result<wire::RelayReply> reply = Error{Errc::unsupported, "this node is no relay"};
  const bool relays = transport_.relay() != nullptr && transport_.relay()->limits().sessions > 0;
  if (relays && is_unknown(connection->remote().node_id)) {
    reply = Error{Errc::invalid_argument, "it relays for nodes with a key"};
  } else if (relays) {
    reply = is_unknown(message->node) ? keep(connection) : bring(connection, message->node);
  }
  static_cast<void>(reply ? connection->reply(request, wire::Verb::relay, wire::encode(*reply))
                          : connection->reply_error(request, reply.error()));
}

}  // namespace farmesh::discovery
