// The sockets behind relay.hpp: waits for both ends of a pair, then copies bytes each way.
#pragma once

#include <memory>

#include <asio/ip/tcp.hpp>

#include "net/accept_gate.hpp"
#include "net/clock.hpp"
#include "net/relay.hpp"

namespace farmesh::net {

class RelaySwitch final : public Relay {
 public:
  explicit RelaySwitch(Clock& clock);
  ~RelaySwitch() override;

  void allow(const RelayLimits& limits) override;
  const RelayLimits& limits() const noexcept override;
  Result<Tickets> reserve(const NodeId& dialler, const NodeId& hidden) override;
  RelayStats stats() const noexcept override;

  /// Somebody has connected and shown `ticket`. An unknown one ends the connection.
  void arrived(const wire::RelayTicket& ticket, asio::ip::tcp::socket socket,
               AcceptGate::Ticket place);
  /// Ends every pair.
  void end();

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the splices
};

}  // namespace farmesh::net
