// The registry's bodies: registrations and heartbeats of nodes read, answers written.
//
// Takes bytes from strangers, gives checked fields; the names are the published ones, and fields
// that nobody here knows are ignored, as older nodes send some. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evm/address.hpp"
#include "gateway/problem.hpp"
#include "ledger/node_registry.hpp"

namespace farmesh::gateway {

/// Either form of a registration.
struct RegistrationBody {
  ledger::NodeRegistration node;  // its id as the body has it: perhaps none
  std::optional<evm::Address> wallet;
  std::string statement;         // words of the wallet, or words and signature
  std::string wallet_signature;  // "0x…" beside the words; may be empty
};
Checked<RegistrationBody> parse_registration(std::string_view body);

/// POST /api/nodes/heartbeat.
Checked<ledger::Heartbeat> parse_heartbeat(std::string_view body);
/// PUT /api/nodes/{node_id}/heartbeat, the older form; its id is in the path.
Checked<ledger::Heartbeat> parse_older_heartbeat(std::string_view body);

/// "…Z", to the second.
std::string iso_time(LedgerTime time);

struct RegisteredReply {
  std::string node_id;
  std::string message;                 // for people; may be empty
  std::string discovery_url;           // of the newer form
  std::vector<std::string> bootstrap;  // of the older form
};
std::string registered_reply(const RegisteredReply& reply);
std::string older_registered_reply(const RegisteredReply& reply);
std::string heartbeat_reply(bool should_rebalance);

/// At most `limit` nodes; total_nodes counts all.
std::string active_nodes_reply(const std::string& model_id,
                               const std::vector<ledger::ListedNode>& nodes, std::size_t limit);
std::string older_active_nodes_reply(const std::vector<ledger::ListedNode>& nodes,
                                     std::size_t limit);
/// How many nodes hold each layer.
std::string layers_reply(const std::string& model_id, const std::vector<std::uint32_t>& holders);
std::string earnings_reply(const evm::Address& wallet, const ledger::WalletEarnings& earnings);
std::string stats_reply(const ledger::MeshStats& stats, LedgerTime now);
std::string bootstrap_reply(const std::vector<std::string>& nodes, std::string_view version);

}  // namespace farmesh::gateway
