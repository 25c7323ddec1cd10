#include "sdk/codec.hpp"

#include <cmath>
#include <cstdlib>
#include <utility>

#include <nlohmann/json.hpp>

#include "http/url.hpp"
#include "sdk/exact_json.hpp"

namespace farmesh::sdk {
namespace {

using nlohmann::json;

MeshFailure kind_of(int status) noexcept {
  switch (status) {
    case 401: return MeshFailure::authentication;
    case 402: return MeshFailure::payment_required;
    case 403: return MeshFailure::permission;
    case 404: return MeshFailure::not_found;
    case 409: return MeshFailure::conflict;
    case 429: return MeshFailure::rate_limited;
    case 502:
    case 503:
    case 504: return MeshFailure::unavailable;
    default:
      return status >= 400 && status < 500 ? MeshFailure::invalid_request : MeshFailure::server;
  }
}

/// Of an error in mid-stream, which has no status any more.
MeshFailure kind_of(std::string_view type) noexcept {
  if (type == "invalid_request_error") return MeshFailure::invalid_request;
  if (type == "authentication_error") return MeshFailure::authentication;
  if (type == "insufficient_quota") return MeshFailure::payment_required;
  if (type == "permission_error") return MeshFailure::permission;
  if (type == "rate_limit_error") return MeshFailure::rate_limited;
  if (type == "overloaded_error") return MeshFailure::unavailable;
  return MeshFailure::server;
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::uint64_t count_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

/// A decimal string, or a number that parse_exact() kept as one.
std::optional<Far> amount_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if (found->is_number_unsigned()) return Far::parse(std::to_string(found->get<std::uint64_t>()));
  return found->is_string() ? Far::parse(found->get_ref<const std::string&>()) : std::nullopt;
}

/// The fields of an error: OpenAI's are an object, the platform's stand beside "error".
MeshError error_of(const json& body, MeshFailure kind) {
  MeshError error;
  error.kind = kind;
  const auto found = body.find("error");
  const json& fields = found != body.end() && found->is_object() ? *found : body;
  error.code = text_of(fields, "code");
  error.message = text_of(fields, &fields == &body ? "error" : "message");
  error.request_id = text_of(body, "request_id");
  return error;
}

/// [0,1,2,5] is the spans 0:3 and 5:6.
void read_layers(const std::string& node_id, const json& layers, std::vector<NodeUse>& nodes) {
  bool open = false;
  for (const json& layer : layers) {
    if (!layer.is_number_unsigned() || layer.get<std::uint64_t>() > UINT32_MAX - 1) continue;
    const auto index = layer.get<std::uint32_t>();
    if (open && nodes.back().layers.end == index) {
      ++nodes.back().layers.end;
    } else {
      nodes.push_back({node_id, {index, index + 1}});
      open = true;
    }
  }
}

MeshUsage usage_of(const json& body) {
  MeshUsage usage;
  usage.prompt_tokens = count_of(body, "prompt_tokens");
  usage.tokens = count_of(body, "completion_tokens");
  usage.cost = amount_of(body, "cost_far");
  const auto nodes = body.find("nodes_used");
  if (nodes == body.end() || !nodes->is_array()) return usage;
  for (const json& node : *nodes) {
    if (!node.is_object()) continue;
    const auto layers = node.find("layers");
    if (layers != node.end() && layers->is_array()) {
      read_layers(text_of(node, "node_id"), *layers, usage.nodes_used);
    }
  }
  return usage;
}

bool is_finite(const SamplingOptions& sampling) {
  for (const LogitBias& bias : sampling.logit_bias) {
    if (!std::isfinite(bias.bias)) return false;
  }
  return std::isfinite(sampling.temperature) && std::isfinite(sampling.top_p) &&
         std::isfinite(sampling.min_p) && std::isfinite(sampling.repetition_penalty) &&
         std::isfinite(sampling.presence_penalty) && std::isfinite(sampling.frequency_penalty);
}

json options_of(const AskOptions& options, const std::string& model) {
  const SamplingOptions& sampling = options.sampling;
  json body{{"model", model},
            {"stream", true},
            {"stream_options", {{"include_usage", true}, {"include_nodes", true}}},
            {"max_tokens", options.max_tokens},
            {"temperature", sampling.temperature},
            {"top_p", sampling.top_p}};
  if (sampling.top_k != 0) body["top_k"] = sampling.top_k;
  if (sampling.min_p != 0) body["min_p"] = sampling.min_p;
  if (sampling.repetition_penalty != 1) body["repetition_penalty"] = sampling.repetition_penalty;
  if (sampling.presence_penalty != 0) body["presence_penalty"] = sampling.presence_penalty;
  if (sampling.frequency_penalty != 0) body["frequency_penalty"] = sampling.frequency_penalty;
  for (const LogitBias& bias : sampling.logit_bias) {
    body["logit_bias"][std::to_string(bias.token)] = bias.bias;
  }
  if (options.seed) body["seed"] = static_cast<std::int64_t>(*options.seed);
  if (!options.stop.empty()) body["stop"] = options.stop;
  if (options.ignore_eos) body["ignore_eos"] = true;
  if (options.max_cost) body["max_cost_far"] = options.max_cost->to_string();
  return body;
}

}  // namespace

MeshResult<std::string> request_body(const Ask& ask, const std::string& model) {
  bool is_text = http::is_utf8(model);
  for (const std::string& stop : ask.options.stop) is_text = is_text && http::is_utf8(stop);
  if (!is_finite(ask.options.sampling)) return invalid_request("a number that is none");
  json body = options_of(ask.options, model);
  if (const auto* text = std::get_if<std::string>(&ask.prompt)) {
    is_text = is_text && http::is_utf8(*text);
    body["prompt"] = *text;
  } else {
    json& messages = body["messages"] = json::array();
    for (const ChatMessage& message : std::get<std::vector<ChatMessage>>(ask.prompt)) {
      is_text = is_text && http::is_utf8(message.role) && http::is_utf8(message.content);
      messages.push_back({{"role", message.role}, {"content", message.content}});
    }
  }
  if (!is_text) return invalid_request("text that is not UTF-8");
  return body.dump();
}

std::optional<StreamChunk> read_chunk(std::string_view data) {
  const json event = json::parse(data, nullptr, false);
  if (!event.is_object()) return std::nullopt;
  StreamChunk chunk;
  if (const auto error = event.find("error"); error != event.end()) {
    chunk.error = error_of(event, kind_of(error->is_object() ? text_of(*error, "type") : ""));
    return chunk;
  }
  const auto choices = event.find("choices");
  if (choices == event.end() || !choices->is_array()) return std::nullopt;
  chunk.id = text_of(event, "id");
  if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
    chunk.usage = usage_of(*usage);
  }
  if (choices->empty()) return chunk;
  const json& choice = choices->front();
  if (!choice.is_object()) return std::nullopt;
  const auto delta = choice.find("delta");
  chunk.text = delta != choice.end() && delta->is_object() ? text_of(*delta, "content")
                                                           : text_of(choice, "text");
  const std::string finish = text_of(choice, "finish_reason");
  if (finish == "length") chunk.finish = FinishReason::length;
  if (finish == "stop") chunk.finish = FinishReason::stop;
  return chunk;
}

MeshError read_refusal(int status, std::string_view body) {
  const json parsed = json::parse(body, nullptr, false);
  MeshError error = parsed.is_object() ? error_of(parsed, kind_of(status)) : MeshError{};
  error.kind = kind_of(status);
  error.status = status;
  if (error.code.empty()) error.code = "http_" + std::to_string(status);
  if (error.message.empty()) error.message = "The server answers " + std::to_string(status) + ".";
  return error;
}

std::optional<std::vector<MeshModel>> read_models(std::string_view body) {
  const json parsed = parse_exact(body);
  if (!parsed.is_object() || !parsed.contains("models")) return std::nullopt;
  std::vector<MeshModel> models;
  for (const json& row : parsed["models"]) {
    if (!row.is_object()) return std::nullopt;
    const auto price = amount_of(row, "price_per_token_far");
    if (!price) return std::nullopt;
    models.push_back({text_of(row, "model_id"), std::uint32_t(count_of(row, "active_nodes")),
                      *price, text_of(row, "status") == "available"});
  }
  return models;
}

std::optional<MeshStatus> read_status(std::string_view body) {
  const json parsed = parse_exact(body);
  if (!parsed.is_object()) return std::nullopt;
  const auto price = amount_of(parsed, "price_per_token_far");
  if (!price) return std::nullopt;
  return MeshStatus{text_of(parsed, "model_id"), std::uint32_t(count_of(parsed, "active_nodes")),
                    std::uint32_t(count_of(parsed, "active_sessions")), *price,
                    text_of(parsed, "status") == "connected"};
}

std::optional<MeshEarnings> read_earnings(std::string_view body) {
  const json parsed = parse_exact(body);
  if (!parsed.is_object()) return std::nullopt;
  const auto total = amount_of(parsed, "total_earned_far");
  const auto pending = amount_of(parsed, "pending_payout_far");
  if (!total || !pending) return std::nullopt;
  MeshEarnings earnings;
  earnings.wallet = text_of(parsed, "wallet_address");
  earnings.total = *total;
  earnings.pending = *pending;
  earnings.tokens_served = count_of(parsed, "total_tokens_served");
  earnings.active_nodes = std::uint32_t(count_of(parsed, "active_nodes"));
  const auto uptime = parsed.find("avg_uptime_percent");
  if (uptime != parsed.end()) {
    earnings.avg_uptime_percent = uptime->is_string()
                                      ? std::strtod(uptime->get<std::string>().c_str(), nullptr)
                                      : double(count_of(parsed, "avg_uptime_percent"));
  }
  const auto history = parsed.find("earnings_history");
  if (history == parsed.end() || !history->is_array()) return earnings;
  for (const json& day : *history) {
    const auto amount = day.is_object() ? amount_of(day, "amount_far") : std::nullopt;
    if (!amount) return std::nullopt;
    earnings.history.push_back({text_of(day, "date"), *amount});
  }
  return earnings;
}

}  // namespace farmesh::sdk
