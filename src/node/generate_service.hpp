// Runs generation loops for clients that have no head, around the head of this peer.
//
// Takes `generate` frames from serve::Peer, drives the chain as any driver would, sends `token`
// frames back. A session and its cache stay until the client closes it or goes away.
// Threading: network thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "client/shared_model.hpp"
#include "client/turn_runner.hpp"
#include "driver/peer_set.hpp"
#include "net/event.hpp"
#include "net/runtime.hpp"
#include "serve/peer.hpp"
#include "serve/worker.hpp"

namespace farmesh::node {

inline constexpr std::size_t kMaxServedSessions = 256;  // of all clients, then busy

class GenerateService final : public serve::GenerateService {
 public:
  /// `head` and `runtime` outlive the service. `model` says the sizes, hash and class of the
  /// peers to drive; `peers` are those that this node knows itself.
  GenerateService(net::Runtime& runtime, wire::Head& head, client::SharedModel model,
                  driver::PeerSetOptions set_options, std::vector<std::string> peers);
  ~GenerateService() override;

  /// Where other peers dial the blocks of this very node, instead of where they did; empty:
  /// nowhere.
  void serve_own(std::string address);
  /// Who was found, instead of who was before, and what they say of themselves in their records;
  /// sessions under way keep their peers.
  void find_peers(std::vector<std::string> addresses,
                  std::map<std::string, driver::PeerClaims> claims);

  void start(std::shared_ptr<net::Connection> client, wire::Frame request,
             wire::Generate message) override;
  void cancel(const SessionId& session) override;

  /// Ends every session; returns when no turn runs any more.
  net::Task<void> close_all();

 private:
  struct Served;

  Result<std::shared_ptr<Served>> admit(const std::shared_ptr<net::Connection>& client,
                                        const wire::Generate& message);
  std::shared_ptr<driver::PeerSet> peers_for(const std::vector<std::string>& more);
  net::Task<void> run(std::shared_ptr<Served> served, std::uint32_t stream,
                      client::TurnInput input);
  bool has_room(Served& served);

  net::Runtime& runtime_;
  wire::Head& head_;
  const client::SharedModel model_;
  const driver::PeerSetOptions set_options_;
  std::vector<std::string> own_peers_;
  std::string own_address_;
  std::vector<std::string> found_peers_;
  std::map<std::string, driver::PeerClaims> claims_;  // of those, by address
  std::map<SessionId, std::shared_ptr<Served>> sessions_;
  // Sessions that name the same peers share the connections to them, and let them go together:
  // addresses that strangers name are not kept.
  std::map<std::vector<std::string>, std::weak_ptr<driver::PeerSet>> peer_sets_;
  int running_ = 0;
  net::Event idle_;
};

}  // namespace farmesh::node
