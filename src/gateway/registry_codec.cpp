#include "gateway/registry_codec.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "evm/wallet_statement.hpp"
#include "gateway/json_fields.hpp"
#include "gateway/json_writer.hpp"
#include "wire/messages.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::size_t kMaxText = 255;
constexpr double kMaxGigabytes = 1 << 20;

// One field under its names; they may repeat each other, not contradict.
std::string text_of(JsonFields& fields, std::initializer_list<std::string_view> keys) {
  std::string text;
  for (const std::string_view key : keys) {
    const auto given = fields.text(key, kMaxText);
    if (!given || given->empty()) continue;
    if (!text.empty() && text != *given) {
      fields.fail(key, "invalid_value", fmt::format("'{}' contradicts '{}'.", key, *keys.begin()));
    }
    text = *given;
  }
  return text;
}

std::optional<std::uint32_t> gigabytes(JsonFields& fields, std::string_view key) {
  const auto given = fields.number(key, 0, kMaxGigabytes);
  if (!given) return std::nullopt;
  return std::uint32_t(*given);
}

// As the ledger's column has it: fp16, int8, …
std::string quantization_of(const std::string& dtype) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNames{
      {{"float16", "fp16"}, {"bfloat16", "bf16"}, {"float32", "fp32"}}};
  for (const auto& [published, column] : kNames) {
    if (dtype == published) return std::string(column);
  }
  return dtype;
}

std::optional<Span> read_span(JsonFields& fields) {
  const nlohmann::json* value = fields.find("span");
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) {
    fields.fail_type("span", "an object", *value);
    return std::nullopt;
  }
  JsonFields inner(*value, "span");
  const auto begin = inner.integer("start", 0, wire::kMaxLayers);
  const auto end = inner.integer("end", 1, wire::kMaxLayers);
  if (inner.failed()) {
    fields.fail(inner.problem());
  } else if (!begin || !end || *begin >= *end) {
    fields.fail("span", "invalid_value", "Invalid 'span': expected start below end.");
  } else {
    return Span{std::uint32_t(*begin), std::uint32_t(*end)};
  }
  return std::nullopt;
}

// What it serves, where that is told: the layers of a model, not just how many.
void read_model(JsonFields& fields, RegistrationBody& body) {
  ledger::ServedModel model;
  model.model_id = text_of(fields, {"model_id", "model", "id"});
  model.quantization = quantization_of(text_of(fields, {"quantization", "torch_dtype"}));
  const std::optional<Span> span = read_span(fields);
  const auto total = fields.integer("total_layers", 1, wire::kMaxLayers);
  const auto blocks = fields.integer("num_blocks", 0, wire::kMaxLayers);
  const auto batch = fields.integer("max_batch_size", 1, 1'000'000);
  if (!span) return;
  if (model.model_id.empty() || !total) {
    fields.fail("span", "missing_required_parameter",
                "'span' needs 'model_id' and 'total_layers' beside it.");
    return;
  }
  if (span->end > *total || (blocks && *blocks != span->size())) {
    fields.fail("span", "invalid_value", "Invalid 'span': it contradicts the number of layers.");
    return;
  }
  model.layers = *span;
  model.total_layers = std::uint32_t(*total);
  if (batch) model.max_batch_size = std::uint32_t(*batch);
  body.node.model = std::move(model);
}

void read_wallet(JsonFields& fields, RegistrationBody& body) {
  const std::string wallet = fields.text("wallet_address", 64).value_or("");
  body.statement = fields.text("wallet_statement", evm::kMaxStatementBytes).value_or("");
  body.wallet_signature = fields.text("signature", 256).value_or("");
  if (wallet.empty()) return;
  const Result<evm::Address> address = evm::parse_address(wallet);
  if (!address || address->is_zero()) {
    fields.fail("wallet_address", "wallet_invalid",
                "Not a wallet address, or one with a wrong checksum.");
    return;
  }
  body.wallet = *address;
  body.node.wallet = evm::to_lower_case(*address);
}

std::string shown_wallet(const std::string& wallet) {
  const Result<evm::Address> address = evm::parse_address(wallet);
  return address ? evm::to_string(*address) : wallet;
}

double rounded(double value, double steps) { return std::round(value * steps) / steps; }

}  // namespace

Checked<RegistrationBody> parse_registration(std::string_view text) {
  const Checked<nlohmann::json> parsed = parse_body(text);
  if (!parsed) return parsed.problem();
  JsonFields fields(*parsed);
  RegistrationBody body;
  ledger::NodeRegistration& node = body.node;
  node.node_id = text_of(fields, {"node_id", "peer_id"});
  read_wallet(fields, body);
  read_model(fields, body);
  node.gpu_model = fields.text("gpu_model", kMaxText).value_or("");
  node.vram_gb = gigabytes(fields, "vram_gb");
  if (const auto total = gigabytes(fields, "vram_total_gb")) node.vram_gb = total;
  node.ram_gb = gigabytes(fields, "ram_gb");
  if (const auto cores = fields.integer("cpu_cores", 1, 1 << 20)) {
    node.cpu_cores = std::uint32_t(*cores);
  }
  node.location = fields.text("location", kMaxText).value_or("");
  node.latitude = fields.number("latitude", -90, 90);
  node.longitude = fields.number("longitude", -180, 180);
  node.public_addr = fields.text("public_addr", kMaxText).value_or("");
  node.dht_addr = fields.text("dht_addr", kMaxText).value_or("");
  if (fields.failed()) return fields.problem();
  return body;
}

Checked<ledger::Heartbeat> parse_heartbeat(std::string_view text) {
  const Checked<nlohmann::json> parsed = parse_body(text);
  if (!parsed) return parsed.problem();
  JsonFields fields(*parsed);
  ledger::Heartbeat beat;
  beat.node_id = fields.required_text("node_id", 64);
  beat.healthy = fields.flag("is_healthy").value_or(true);
  beat.latency_ms = fields.number("latency_ms", 0, 1e9);
  beat.throughput_tokens_per_sec = fields.number("throughput_tokens_per_sec", 0, 1e9);
  beat.current_requests = std::uint32_t(fields.integer("current_requests", 0, 1e9).value_or(0));
  beat.model_id = text_of(fields, {"model_id", "model", "id"});
  // Checked, and for the operator's own eyes: the ledger has no place for them.
  fields.number("gpu_utilization_percent", 0, 100);
  fields.number("vram_used_gb", 0, kMaxGigabytes);
  if (fields.failed()) return fields.problem();
  return beat;
}

Checked<ledger::Heartbeat> parse_older_heartbeat(std::string_view text) {
  const Checked<nlohmann::json> parsed = parse_body(text);
  if (!parsed) return parsed.problem();
  JsonFields fields(*parsed);
  ledger::Heartbeat beat;
  const std::string status = fields.text("status", 32).value_or("active");
  beat.healthy = status != "offline" && status != "draining" && status != "unhealthy";
  // Claims: what is paid for comes from receipts.
  fields.number("vram_available_gb", 0, kMaxGigabytes);
  fields.integer("tokens_served_since_last", 0, INT64_MAX);
  if (fields.failed()) return fields.problem();
  return beat;
}

std::string iso_time(LedgerTime time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", std::chrono::floor<std::chrono::seconds>(time));
}

std::string registered_reply(const RegisteredReply& reply) {
  JsonWriter json;
  json.begin_object().field("node_id", reply.node_id).field("status", "registered");
  json.field("discovery_url", reply.discovery_url);
  json.field("heartbeat_interval_sec", ledger::kHeartbeatInterval.count());
  if (!reply.message.empty()) json.field("message", reply.message);
  return json.end_object().take();
}

std::string older_registered_reply(const RegisteredReply& reply) {
  JsonWriter json;
  json.begin_object().field("node_id", reply.node_id).field("status", "registered");
  json.field("message", reply.message.empty() ? "This node is registered." : reply.message);
  json.key("dht_bootstrap").begin_array();
  for (const std::string& node : reply.bootstrap) json.value(node);
  return json.end_array().end_object().take();
}

std::string heartbeat_reply(bool should_rebalance) {
  JsonWriter json;
  json.begin_object().field("status", "ok").field("should_rebalance", should_rebalance);
  return json.end_object().take();
}

std::string active_nodes_reply(const std::string& model_id,
                               const std::vector<ledger::ListedNode>& nodes, std::size_t limit) {
  JsonWriter json;
  json.begin_object().field("model_id", model_id).field("total_nodes", nodes.size());
  json.key("nodes").begin_array();
  for (std::size_t i = 0; i < std::min(nodes.size(), limit); ++i) {
    const ledger::ListedNode& node = nodes[i];
    json.begin_object().field("node_id", node.node_id);
    json.field("wallet_address", shown_wallet(node.wallet)).field("gpu_model", node.gpu_model);
    json.field("vram_gb", node.vram_gb).field("location", node.location);
    json.key("layers_served").begin_array();
    for (std::uint32_t layer = node.model.layers.begin; layer < node.model.layers.end; ++layer) {
      json.value(layer);
    }
    json.end_array().field("reliability_score", rounded(node.reliability_score, 1e4));
    json.field("avg_latency_ms", rounded(node.avg_latency_ms.value_or(0), 1e3)).end_object();
  }
  return json.end_array().end_object().take();
}

std::string older_active_nodes_reply(const std::vector<ledger::ListedNode>& nodes,
                                     std::size_t limit) {
  JsonWriter json;
  json.begin_array();
  for (std::size_t i = 0; i < std::min(nodes.size(), limit); ++i) {
    const ledger::ListedNode& node = nodes[i];
    json.begin_object().field("node_id", node.node_id).field("peer_id", node.node_id);
    json.field("public_addr", node.public_addr).field("model_id", node.model.model_id);
    json.field("num_blocks", node.model.layers.size()).field("status", "active");
    json.field("last_heartbeat", iso_time(node.last_seen));
    json.field("uptime_percentage", rounded(node.uptime_percent, 1e2)).end_object();
  }
  return json.end_array().take();
}

std::string layers_reply(const std::string& model_id, const std::vector<std::uint32_t>& holders) {
  JsonWriter json;
  json.begin_object().field("model_id", model_id).field("total_layers", holders.size());
  const bool covered = !holders.empty() && !std::ranges::count(holders, 0u);
  json.field("available", covered).key("nodes_per_layer").begin_array();
  for (const std::uint32_t nodes : holders) json.value(nodes);
  return json.end_array().end_object().take();
}

std::string earnings_reply(const evm::Address& wallet, const ledger::WalletEarnings& earnings) {
  JsonWriter json;
  json.begin_object().field("wallet_address", evm::to_string(wallet));
  json.raw_field("total_earned_far", earnings.total.to_string());
  json.field("total_tokens_served", earnings.tokens).field("active_nodes", earnings.active_nodes);
  json.field("avg_uptime_percent", rounded(earnings.avg_uptime_percent, 1e2));
  json.raw_field("pending_payout_far", earnings.pending.to_string());
  json.key("earnings_history").begin_array();
  for (const ledger::DailyAmount& day : earnings.history) {
    json.begin_object().field("date", day.date);
    json.raw_field("amount_far", day.amount.to_string()).end_object();
  }
  return json.end_array().end_object().take();
}

std::string stats_reply(const ledger::MeshStats& stats, LedgerTime now) {
  JsonWriter json;
  json.begin_object().field("active_nodes", stats.active_nodes);
  json.field("total_nodes_registered", stats.total_nodes);
  json.field("total_tokens_processed", stats.tokens_generated);
  json.field("models_served", stats.models).field("timestamp", iso_time(now));
  return json.end_object().take();
}

std::string bootstrap_reply(const std::vector<std::string>& nodes, std::string_view version) {
  JsonWriter json;
  json.begin_object().key("bootstrap_nodes").begin_array();
  for (const std::string& node : nodes) json.value(node);
  json.end_array().field("network", "far-mesh").field("version", version);
  return json.end_object().take();
}

}  // namespace farmesh::gateway
