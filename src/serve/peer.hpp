// A peer: serves its stage to drivers and pushes results to the next peer of each route.
//
// Takes frames from net/, gives work to worker.hpp, keeps for each session the exact bytes it
// sent (within a budget) so that a lost stage after it can be rebuilt from here.
// Threading: confined to the transport's executor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <farmesh/result.hpp>

#include "net/connection.hpp"
#include "net/link.hpp"
#include "serve/meter.hpp"
#include "serve/remote_shares.hpp"
#include "serve/worker.hpp"
#include "wire/messages.hpp"

namespace farmesh::serve {

/// Runs generation loops for clients that have no head. Implemented above (node/), because it
/// needs a driver; serve only carries its frames.
class GenerateService {
 public:
  virtual ~GenerateService() = default;
  /// Sends `token` frames to `client` with the request's stream until done.
  virtual void start(std::shared_ptr<net::Connection> client, wire::Frame request,
                     wire::Generate message) = 0;
  /// The client closed the session, or its connection ended.
  virtual void cancel(const SessionId& session) = 0;
};

struct PeerOptions {
  wire::NodeId node_id{};
  std::string software = "farmesh";
  std::string advertised_address;  // empty: the listening address
  std::string model_id;
  ModelHash model_hash;
  std::uint32_t num_layers = 0;
  std::uint64_t history_bytes = 256u << 20;  // stored outputs of all sessions
  std::chrono::milliseconds dial_timeout{3'000};
  std::uint32_t max_connections = 1'024;
  ShareLimits shares;  // of remotes that have proven a key; this node itself is not bound
  MeterOptions meter;
  net::ConnectionOptions connection;
  /// Answer `swarm`, and `reach` and `relay`; empty: they are told unsupported.
  using RequestHandler =
      std::function<void(const std::shared_ptr<net::Connection>&, const wire::Frame&)>;
  RequestHandler on_swarm;
  RequestHandler on_reach;
};

struct PeerStats {
  std::uint64_t steps = 0;
  std::uint64_t rows = 0;
  std::uint64_t forwarded_bytes = 0;
  std::uint32_t sessions = 0;
  std::uint32_t connections = 0;
};

class Peer {
 public:
  /// `worker` must outlive the peer; `generate` may be null (no head offered).
  Peer(net::Transport& transport, Worker& worker, PeerOptions options,
       GenerateService* generate = nullptr);
  ~Peer();  // closes every connection

  /// Begins to accept; returns the address with the chosen port.
  Result<std::string> listen(const std::string& address);
  /// Serves one in-process link (the local stage of a driver in this process).
  void attach(std::shared_ptr<net::Link> link);

  /// Stops accepting sessions, lets open ones end until `deadline`, then closes.
  net::Task<void> drain(TimePoint deadline);

  PeerStats stats() const noexcept;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace farmesh::serve
