// Nodes as the platform lists them: who registered, who is alive, which layers are served, what
// each wallet has earned; and the mesh's figures, a row a minute.
//
// Takes registrations and heartbeats whose signatures the caller has checked. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/store.hpp"

namespace farmesh::ledger {

inline constexpr std::chrono::seconds kHeartbeatInterval{30};
inline constexpr std::chrono::seconds kStaleAfter{120};  // without heartbeat: offline
inline constexpr std::chrono::hours kForgottenAfter{7 *
                                                    24};  // … and without having earned: removed

struct ServedModel {
  std::string model_id;
  Span layers;
  std::uint32_t total_layers = 0;
  std::string quantization;  // "fp16", "int8"…; may be empty
  std::optional<std::uint32_t> max_batch_size;
};

struct NodeRegistration {
  std::string node_id;  // 64 hexadecimal digits
  std::string wallet;   // may be empty: earns, and is paid once it has one
  std::string gpu_model;
  std::optional<std::uint32_t> vram_gb;
  std::optional<std::uint32_t> cpu_cores;
  std::optional<std::uint32_t> ram_gb;
  std::string location;
  std::optional<double> latitude;
  std::optional<double> longitude;
  std::string public_addr;
  std::string dht_addr;
  std::optional<ServedModel> model;
  /// When the node signed this, in Unix milliseconds; 0: nobody signed it. Each node's must grow.
  std::int64_t signed_ms = 0;
};

struct Heartbeat {
  std::string node_id;
  bool healthy = true;
  std::optional<double> latency_ms;
  std::optional<double> throughput_tokens_per_sec;
  std::uint32_t current_requests = 0;
  std::string model_id;        // empty: of all it serves
  std::int64_t signed_ms = 0;  // as of a registration
};

/// One node with one of its models.
struct ListedNode {
  std::string node_id;
  std::string wallet;
  std::string gpu_model;
  std::uint32_t vram_gb = 0;
  std::string location;
  std::string public_addr;
  ServedModel model;
  bool active = false;
  double reliability_score = 1;
  std::optional<double> avg_latency_ms;
  double uptime_percent = 0;  // of the time since it registered
  LedgerTime last_seen{};
};

struct DailyAmount {
  std::string date;  // "2026-11-23", UTC
  Far amount;
};

struct WalletEarnings {
  Far total;
  Far pending;  // not paid yet
  std::uint64_t tokens = 0;
  std::uint64_t sessions = 0;
  std::uint64_t failed_sessions = 0;  // of these
  std::uint32_t active_nodes = 0;
  std::uint32_t nodes = 0;
  std::vector<std::string> node_ids;  // the wallet's now
  double avg_uptime_percent = 0;
  std::optional<double> avg_latency_ms;
  std::vector<DailyAmount> history;  // by date
};

struct MeshStats {
  std::uint32_t active_nodes = 0;
  std::uint32_t total_nodes = 0;
  std::uint32_t models = 0;
  std::uint32_t active_sessions = 0;
  std::uint64_t tokens_generated = 0;  // ever
};

struct Latencies {
  std::optional<double> average_ms, p95_ms, p99_ms;
};

class NodeRegistry {
 public:
  explicit NodeRegistry(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// Enters a node, or what is new about it; it counts as alive. Returns its far_nodes.id. Fails
  /// with invalid_argument, or ledger_conflict when the node signed nothing later than what was
  /// taken before.
  Result<std::string> register_node(const NodeRegistration& registration);

  /// Fails with not_found (register again), invalid_argument or ledger_conflict (as above).
  Result<void> heartbeat(const Heartbeat& heartbeat);

  /// Marks nodes without heartbeat since kStaleAfter as offline, and says how many there were.
  Result<std::size_t> mark_stale();

  /// Removes nodes unseen since kForgottenAfter that never earned, so that the keys anybody may
  /// make do not fill the table. Says how many there were.
  Result<std::size_t> forget_strangers();

  /// Alive ones that serve the model (empty: any), by reliability; `location`: only those whose
  /// location begins so, if not empty.
  Result<std::vector<ListedNode>> active_nodes(const std::string& model_id,
                                               const std::string& location = {});
  /// How many alive nodes hold each layer of the model; empty when none is known to.
  Result<std::vector<std::uint32_t>> coverage(const std::string& model_id);

  Result<WalletEarnings> earnings(const std::string& wallet, std::uint32_t days = 30);
  Result<MeshStats> stats();

  /// Appends a row to far_mesh_metrics.
  Result<void> record_metrics(const Latencies& latencies);

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace farmesh::ledger
