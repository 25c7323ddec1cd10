// What the coordinator's routes share. Made once by Coordinator, passed by reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/ledger.hpp>

#include "evm/address.hpp"
#include "gateway/caller.hpp"
#include "gateway/fair_queue.hpp"
#include "gateway/gatekeeper.hpp"
#include "gateway/metering.hpp"
#include "gateway/model_host.hpp"
#include "gateway/problem.hpp"
#include "gateway/rate_limiter.hpp"
#include "gateway/registry.hpp"
#include "gateway/request_table.hpp"
#include "gateway/session_cache.hpp"
#include "gateway/tier_nodes.hpp"
#include "http/metrics.hpp"
#include "http/request.hpp"
#include "ledger/node_registry.hpp"

namespace farmesh::gateway {

/// An escrow on its chain.
struct EscrowPlace {
  std::uint64_t chain_id = 0;
  evm::Address address;
};

struct CoordinatorOptions {
  std::string version;
  std::string coordinator_id;  // this process in the ledger; at most 64 bytes
  /// Tokens of a chat that does not say how many, cut to the context.
  std::uint32_t default_max_tokens = 1'024;
  std::uint32_t max_draft = 0;  // tokens guessed ahead in a step, as GenerateOptions has it
  SplitPolicy split = SplitPolicy::layer_units;
  std::uint32_t platform_fee_bps = 0;
  Far public_budget;  // the credit of requests without a key, topped up at each start
  GatekeeperOptions gatekeeper;
  FairQueueOptions queue;
  /// Shared by several coordinators; null: this process's own.
  std::shared_ptr<SessionCache> turns;
  std::shared_ptr<RateLimits> rate_limits;
  std::shared_ptr<RequestBoard> requests;
  TierRules tiers;                    // whom their turns may use
  std::optional<EscrowPlace> escrow;  // whose reservations are taken; none: they are refused
  RegistryOptions registry;           // but for version and aliases, which are the coordinator's
};

class LiveTurn;

/// The turns under way, as the checkpoint and the drain see them. Thread-safe.
class LiveTurns {
 public:
  void add(const std::shared_ptr<LiveTurn>& turn);
  std::vector<std::shared_ptr<LiveTurn>> all();

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<LiveTurn>> turns_;
};

/// Sessions whose end the ledger could not take yet. Thread-safe.
class UnsettledSessions {
 public:
  void add(SessionOutcome outcome);
  std::vector<SessionOutcome> take();
  std::size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::vector<SessionOutcome> outcomes_;
};

/// How long the latest turns took. Thread-safe.
class RecentLatencies {
 public:
  void add(double ms);
  /// Of the last thousand; nothing before the first.
  ledger::Latencies summary() const;

 private:
  static constexpr std::size_t kMany = 1'000;
  mutable std::mutex mutex_;
  std::deque<double> ms_;
};

struct Services {
  CoordinatorOptions options;
  ModelHost& models;
  std::shared_ptr<ledger::Store> store;  // null: nothing is metered
  std::unique_ptr<ContributionLedger> ledger;
  std::shared_ptr<SessionCache> turns;  // to resume
  Gatekeeper gatekeeper;
  FairQueue queue;
  http::Metrics metrics;
  RequestTable requests{options.requests};
  LiveTurns live;
  UnsettledSessions unsettled;
  RecentLatencies latencies;
  Metering metering{store, metrics};
  TierNodes tier_nodes{options.tiers, store};
};

/// Marks answers that the fallback gave.
inline constexpr const char* kFallbackHeader = "X-FarMesh-Fallback";

/// What decides, with the seed, which tokens come: weights and numerics.
std::string fingerprint(const HostedModel& hosted);

/// The model of that name. Fails with 404.
Checked<HostedModel*> find_model(const Services& services, const std::string& name);

/// `bytes` random bytes in hexadecimal.
std::string draw_id(std::size_t bytes = 12);

}  // namespace farmesh::gateway
