#include "gateway/platform_codec.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "evm/address.hpp"
#include "gateway/json_fields.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/openai_request.hpp"

namespace farmesh::gateway {
namespace {

using nlohmann::json;

// A stranger's text that is kept, shown and compared: printable ASCII.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// The three names of one field: they may repeat each other, not contradict.
std::string read_model(JsonFields& fields) {
  std::string model;
  for (const char* key : {"model", "model_id", "id"}) {
    const auto given = fields.text(key, kMaxModelIdBytes);
    if (!given || given->empty()) continue;
    if (!model.empty() && model != *given) {
      fields.fail(key, "invalid_value", "'model', 'model_id' and 'id' name different models.");
    }
    model = *given;
  }
  return model;
}

void read_names(JsonFields& fields, PlatformRequest& request) {
  request.user_wallet = fields.text("user_wallet", 64).value_or("");
  if (!request.user_wallet.empty() && !evm::parse_address(request.user_wallet)) {
    fields.fail("user_wallet", "wallet_invalid",
                "Invalid 'user_wallet': not a wallet address, or one with a wrong checksum.");
  }
  request.request_id = fields.text("request_id", kMaxRequestIdBytes).value_or("");
  if (!is_plain(request.request_id)) {
    fields.fail("request_id", "invalid_value",
                "Invalid 'request_id': expected printable ASCII without spaces.");
  }
  request.tier = fields.text("tier", 32).value_or("");
}

void read_sampling(JsonFields& fields, PlatformRequest& request) {
  SamplingOptions& sampling = request.generate.sampling;
  request.max_tokens = std::uint32_t(fields.integer("max_tokens", 1, 1'000'000'000).value_or(512));
  sampling.temperature = float(fields.number("temperature", 0, 2).value_or(0.7));
  sampling.top_p = float(fields.number("top_p", 0, 1).value_or(0.9));
  if (sampling.top_p == 0) {
    sampling.top_p = 1;
    sampling.top_k = 1;
  }
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    sampling.seed = std::uint64_t(*seed);
    request.has_seed = true;
  }
}

void write_layers(JsonWriter& json, Span layers) {
  json.key("layers").begin_array();
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) json.value(layer);
  json.end_array();
}

void write_answer(JsonWriter& json, const PlatformAnswer& answer) {
  json.field("text", answer.text).field("tokens_generated", answer.tokens_generated);
  json.raw_field("cost_far", answer.cost.to_string()).field("latency_ms", answer.latency_ms);
  json.field("finish_reason", answer.finish);
  if (answer.fallback) json.field("fallback", true);
  write_nodes_used(json, answer.nodes);
}

// Milliseconds and gigabytes for people: no more digits than were measured.
double rounded(double value) { return std::round(value * 10) / 10; }

}  // namespace

void write_nodes_used(JsonWriter& json, std::span<const NodeUsed> nodes) {
  json.key("nodes_used").begin_array();
  for (const NodeUsed& node : nodes) {
    json.begin_object().field("node_id", node.node_id);
    write_layers(json, node.layers);
    json.end_object();
  }
  json.end_array();
}

Checked<PlatformRequest> parse_platform_request(std::string_view body) {
  const Checked<json> parsed = parse_body(body);
  if (!parsed) return parsed.problem();
  JsonFields fields(*parsed);
  PlatformRequest request;
  request.prompt = fields.required_text("prompt", kMaxBodyBytes);
  request.model = read_model(fields);
  read_names(fields, request);
  read_sampling(fields, request);
  request.stream = fields.flag("stream").value_or(true);
  request.max_cost = fields.amount("max_cost_far");
  fields.refuse_others();
  if (fields.failed()) return fields.problem();
  return request;
}

std::string platform_token_event(std::string_view text, std::string_view request_id,
                                 std::uint64_t tokens_generated, Far cost) {
  JsonWriter json;
  json.begin_object().field("token", text).field("request_id", request_id);
  json.field("tokens_generated", tokens_generated).field("cost_far", cost.to_string());
  return json.end_object().take();
}

std::string platform_done_event(const PlatformEnd& end) {
  JsonWriter json;
  json.begin_object().field("done", true).field("request_id", end.request_id);
  json.field("total_tokens", end.total_tokens).field("cost_far", end.cost.to_string());
  json.field("latency_ms", end.latency_ms).field("finish_reason", end.finish);
  if (end.fallback) json.field("fallback", true);
  return json.end_object().take();
}

std::string platform_answer(const PlatformAnswer& answer) {
  JsonWriter json;
  json.begin_object().field("request_id", answer.request_id).field("model_id", answer.model_id);
  write_answer(json, answer);
  return json.end_object().take();
}

std::string platform_status(const PlatformAnswer& answer, std::string_view status,
                            const std::optional<Problem>& problem) {
  JsonWriter json;
  json.begin_object().field("request_id", answer.request_id).field("model_id", answer.model_id);
  json.field("status", status);
  write_answer(json, answer);
  if (problem) json.field("error", problem->message).field("code", problem->code);
  return json.end_object().take();
}

std::string health_reply(std::string_view version) {
  JsonWriter json;
  json.begin_object().field("status", "healthy").field("service", "far-mesh-coordinator");
  return json.field("version", version).end_object().take();
}

std::string mesh_status_reply(const ModelRow& model) {
  JsonWriter json;
  json.begin_object().field("model_id", model.model_id).field("active_nodes", model.active_nodes);
  json.field("active_sessions", model.active_sessions);
  json.field("price_per_token_far", model.price.to_string());
  json.field("status", model.available ? "connected" : "disconnected");
  return json.end_object().take();
}

std::string models_reply(std::span<const ModelRow> models) {
  JsonWriter json;
  json.begin_object().key("models").begin_array();
  for (const ModelRow& model : models) {
    json.begin_object().field("model_id", model.model_id);
    json.field("active_nodes", model.active_nodes);
    json.field("price_per_token_far", model.price.to_string());
    json.field("status", model.available ? "available" : "unavailable").end_object();
  }
  return json.end_array().end_object().take();
}

std::string api_models_reply(std::span<const ModelRow> models) {
  JsonWriter json;
  json.begin_object().key("models").begin_array();
  for (const ModelRow& model : models) {
    json.begin_object().field("id", model.model_id).field("name", model.name);
    json.field("active_nodes", model.active_nodes);
    json.field("avg_latency_ms", rounded(model.avg_latency_ms));
    json.raw_field("price_per_token_far", model.price.to_string());
    json.field("min_vram_gb", rounded(model.min_vram_gb)).end_object();
  }
  return json.end_array().end_object().take();
}

}  // namespace farmesh::gateway
