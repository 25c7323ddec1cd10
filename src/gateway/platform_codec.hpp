// The platform's own forms: its request bodies, checked, and its replies. Pure functions.
//
// Names and types are a published contract: fields may be added, never renamed. Amounts are exact
// decimal strings in the streams and on the coordinator's own routes, and exact JSON number
// literals in whole answers under /api/. On input `model`, `model_id` and `id` are all taken.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/money.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

#include "gateway/json_writer.hpp"
#include "gateway/problem.hpp"

namespace farmesh::gateway {

inline constexpr std::size_t kMaxRequestIdBytes = 255;

/// POST /inference/generate, /api/inference/generate, /api/inference/distributed/generate and
/// /api/inference/chat: one form, whose defaults are the published ones.
struct PlatformRequest {
  std::string prompt;
  std::string model;  // empty: the default model
  std::uint32_t max_tokens = 512;
  GenerateOptions generate;  // temperature 0.7, top_p 0.9; everything but max_tokens
  bool has_seed = false;
  bool stream = true;
  std::string user_wallet;  // empty, or 0x and 40 hexadecimal digits as given
  std::string request_id;   // empty: the coordinator draws one
  std::string tier;
  std::optional<Far> max_cost;  // max_cost_far
};
Checked<PlatformRequest> parse_platform_request(std::string_view body);

// --- the events of a stream, without "data: "
std::string platform_token_event(std::string_view text, std::string_view request_id,
                                 std::uint64_t tokens_generated, Far cost);
struct PlatformEnd {
  std::string_view request_id;
  std::uint64_t total_tokens = 0;
  Far cost;
  std::int64_t latency_ms = 0;
  std::string_view finish;  // "stop", "length", "cancelled"
  bool fallback = false;    // not the mesh made it, or not all of it
};
std::string platform_done_event(const PlatformEnd& end);

// --- whole answers
struct NodeUsed {
  std::string node_id;
  Span layers;
};
/// As the field "nodes_used" of the object being written.
void write_nodes_used(JsonWriter& json, std::span<const NodeUsed> nodes);

struct PlatformAnswer {
  std::string request_id;
  std::string model_id;
  std::string text;
  std::uint64_t tokens_generated = 0;
  Far cost;
  std::int64_t latency_ms = 0;
  std::string finish;
  std::vector<NodeUsed> nodes;
  bool fallback = false;  // not the mesh made it, or not all of it
};
std::string platform_answer(const PlatformAnswer& answer);

/// GET /api/inference/{request_id}: `status` is active, completed, failed or cancelled.
std::string platform_status(const PlatformAnswer& answer, std::string_view status,
                            const std::optional<Problem>& problem);

std::string health_reply(std::string_view version);

/// A model as the lists show it.
struct ModelRow {
  std::string model_id;
  std::string name;
  std::uint32_t active_nodes = 0;
  std::uint32_t active_sessions = 0;
  double avg_latency_ms = 0;
  double min_vram_gb = 0;
  Far price;
  bool available = false;  // every layer is covered
};
/// GET /mesh/status
std::string mesh_status_reply(const ModelRow& model);
/// GET /models
std::string models_reply(std::span<const ModelRow> models);
/// GET /api/inference/models
std::string api_models_reply(std::span<const ModelRow> models);

}  // namespace farmesh::gateway
