// The node registry over HTTP: who registered, who is alive, what is served, what wallets earned.
//
// Takes nodes' signed requests, gives people and dashboards the mesh as the ledger has it; nobody
// needs it to generate a token. `farmesh discovery` serves it, and the coordinator beside its own
// routes: one set of handlers. docs/http-api.md lists them.
// Its routes refer to it: destroy the server first. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include <farmesh/result.hpp>

#include "gateway/problem.hpp"
#include "gateway/rate_limiter.hpp"
#include "gateway/registry_codec.hpp"
#include "http/metrics.hpp"
#include "http/request.hpp"
#include "http/responder.hpp"
#include "http/router.hpp"
#include "http/server.hpp"
#include "ledger/store.hpp"

namespace farmesh::gateway {

inline constexpr std::size_t kMaxRegistryBody = 8 * 1024;
inline constexpr std::size_t kMaxListedNodes = 1'000;  // in one answer

struct RegistryOptions {
  std::string version;
  std::vector<std::string> bootstrap_nodes;  // of the mesh, as told to newcomers
  std::string public_url;                    // of this service; empty: as the request names it
  // Of the network that pays; a wallet's statement must be for it.
  std::string wallet_domain = "farmesh";
  std::uint64_t chain_id = 56;
  /// Short id → full id of a model; empty: as given.
  std::function<std::string(const std::string&)> full_id;
  // Of one address; 0: any number.
  double requests_per_minute = 600;
  double registrations_per_hour = 240;
};

class Registry {
 public:
  /// Without a store every question about nodes is answered with 503.
  Registry(RegistryOptions options, std::shared_ptr<ledger::Store> store);
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  void add_routes(http::Router& router);
  /// /health and /metrics, for a process that serves the registry alone.
  void add_service_routes(http::Router& router);
  /// A line of log and a count for each answer.
  void finished(const http::Finished& finished);

  /// Marks nodes without a heartbeat for two minutes as offline. Call it every few seconds.
  Result<void> mark_stale();
  /// Removes those of long ago that never earned. Call it now and then.
  Result<void> forget_strangers();

 private:
  using Handle = Checked<http::Reply> (Registry::*)(const http::Request&);
  http::Handler handler(Handle handle);

  Checked<http::Reply> register_node(const http::Request& request);
  Checked<http::Reply> register_older(const http::Request& request);
  Checked<http::Reply> heartbeat(const http::Request& request);
  Checked<http::Reply> older_heartbeat(const http::Request& request);
  Checked<http::Reply> earnings(const http::Request& request);
  Checked<http::Reply> active(const http::Request& request);
  Checked<http::Reply> older_active(const http::Request& request);
  Checked<http::Reply> layers(const http::Request& request);
  Checked<http::Reply> stats(const http::Request& request);

  Checked<RegisteredReply> admit(const http::Request& request);
  Checked<http::Reply> beat(const http::Request& request, ledger::Heartbeat beat);
  bool should_move(const ledger::Heartbeat& beat);
  /// Who holds what of a model, a moment ago.
  struct Coverage {
    LedgerTime at;
    std::vector<std::uint32_t> holders;  // by layer
    std::unordered_map<std::string, Span> spans;
  };
  static Coverage coverage_of(const std::vector<ledger::ListedNode>& nodes, LedgerTime now);
  std::string full_id(const std::string& model) const;
  std::int64_t now_ms() const;

  const RegistryOptions options_;
  const std::shared_ptr<ledger::Store> store_;
  RateLimiter limiter_;
  http::Metrics metrics_;
  std::mutex mutex_;
  std::map<std::string, Coverage> coverage_;  // by model
};

}  // namespace farmesh::gateway
