// Which nodes serve which tier: rules of the operator's, made into lists of nodes.
//
// Takes rules from a file and the registry's nodes from the ledger, gives each turn of a tier the
// nodes it may use. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

#include "driver/node_choice.hpp"
#include "ledger/node_registry.hpp"

namespace farmesh::gateway {

/// What a node must be to serve a tier. All that are given must hold.
struct TierRule {
  std::vector<NodeId> nodes;           // these; empty: any
  double min_reliability = 0;          // 0 to 1, as the registry has it
  double max_latency_ms = 0;           // of its own heartbeats, 0: any; not told yet counts as well
  std::vector<std::string> locations;  // its location begins with one of these; empty: anywhere
  bool others_too = false;             // rather than nobody

  bool asks_registry() const {
    return min_reliability > 0 || max_latency_ms > 0 || !locations.empty();
  }
};
using TierRules = std::map<std::string, TierRule, std::less<>>;  // by tier

/// {"premium": {"min_reliability": 0.95, "max_latency_ms": 200, "locations": ["eu"],
///  "nodes": ["<64 digits>"], "others_too": true}, …}. Fails with config_invalid.
Result<TierRules> read_tier_rules(const std::string& file);

class TierNodes {
 public:
  /// `store` null: there is no registry, and rules that ask it let nobody serve.
  TierNodes(TierRules rules, std::shared_ptr<ledger::Store> store);

  /// Asks the registry anew for these models. What it cannot tell stays as it was.
  Result<void> refresh(const std::vector<std::string>& model_ids);
  /// Null: any node.
  std::shared_ptr<const driver::NodeChoice> choice(const std::string& model_id,
                                                   std::string_view tier) const;
  bool empty() const noexcept { return rules_.empty(); }

 private:
  using Choices = std::map<std::pair<std::string, std::string>,  // model, tier
                           std::shared_ptr<const driver::NodeChoice>>;

  const TierRules rules_;
  const std::shared_ptr<ledger::Store> store_;
  std::map<std::string, std::shared_ptr<const driver::NodeChoice>, std::less<>> given_;  // by tier
  mutable std::mutex mutex_;  // guards the below
  Choices choices_;
};

}  // namespace farmesh::gateway
