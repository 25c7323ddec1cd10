#include "gateway/model_host.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

namespace farmesh::gateway {
namespace {

constexpr std::uintmax_t kMaxFileBytes = 1 << 20;

// The least that takes part: one decoder layer in 16 bits, and as much again for its caches.
double least_gigabytes(const ModelSummary& summary) {
  const double weights = 12.0 * summary.hidden_size * summary.hidden_size;
  return 2 * weights * 2 / (1024.0 * 1024.0 * 1024.0);
}

Result<nlohmann::json> read_json(const std::string& file) {
  std::error_code failure;
  const std::uintmax_t size = std::filesystem::file_size(file, failure);
  if (failure || size > kMaxFileBytes) {
    return {Errc::config_invalid, "cannot be read, or is above 1 MiB: " + file};
  }
  std::ifstream stream(file);
  return nlohmann::json::parse(stream, nullptr, false);
}

std::optional<Far> price_in(const nlohmann::json& object, const char* key) {
  const auto text = object.find(key);
  if (text == object.end() || !text->is_string()) return std::nullopt;
  const std::optional<Far> price = Far::parse(text->get<std::string>());
  return price && !price->is_negative() && *price <= kMaxPrice ? price : std::nullopt;
}

}  // namespace

std::vector<std::uint32_t> coverage(const ModelState& state) {
  std::vector<std::uint32_t> nodes(state.summary.num_layers, state.local ? 1 : 0);
  for (const PeerStatus& peer : state.summary.peers) {
    if (!peer.connected || peer.refused) continue;
    for (std::uint32_t layer = peer.layers.begin; layer < peer.layers.end; ++layer) {
      if (layer < nodes.size()) ++nodes[layer];
    }
  }
  return nodes;
}

bool is_covered(const ModelState& state) {
  const auto offers_head = [](const PeerStatus& peer) { return peer.connected && peer.head; };
  const std::vector<PeerStatus>& peers = state.summary.peers;
  if (state.remote_head && std::none_of(peers.begin(), peers.end(), offers_head)) return false;
  const std::vector<std::uint32_t> nodes = coverage(state);
  return !nodes.empty() && std::find(nodes.begin(), nodes.end(), 0u) == nodes.end();
}

Result<Prices> read_prices(const std::string& file) {
  const Result<nlohmann::json> object = read_json(file);
  if (!object) return object.error();
  const Error wrong{Errc::config_invalid,
                    "not a JSON object of {\"price\": \"0.001\"} by model: " + file};
  if (!object->is_object()) return wrong;
  Prices prices;
  for (const auto& [id, own] : object->items()) {
    if (!own.is_object()) return wrong;
    const auto price = price_in(own, "price");
    const auto prompt = own.contains("prompt_price") ? price_in(own, "prompt_price") : Far();
    if (!price || !prompt || own.size() > (own.contains("prompt_price") ? 2u : 1u)) return wrong;
    prices[id] = {*price, *prompt};
  }
  return prices;
}

Result<std::map<std::string, std::string>> read_aliases(const std::string& file) {
  const Result<nlohmann::json> read = read_json(file);
  if (!read) return read.error();
  const nlohmann::json& object = *read;
  std::map<std::string, std::string> aliases;
  if (object.is_object()) {
    for (const auto& [alias, id] : object.items()) {
      if (id.is_string()) aliases[alias] = id.get<std::string>();
    }
  }
  if (!object.is_object() || aliases.size() != object.size()) {
    return {Errc::config_invalid, "not a JSON object of strings: " + file};
  }
  return aliases;
}

void ModelHost::add(HostedModelOptions options, std::shared_ptr<Model> model) {
  auto hosted = std::make_unique<HostedModel>();
  if (options.name.empty()) options.name = options.id.substr(options.id.rfind('/') + 1);
  hosted->options = std::move(options);
  hosted->model = std::move(model);
  hosted->created = std::chrono::duration_cast<std::chrono::seconds>(
                        std::chrono::system_clock::now().time_since_epoch())
                        .count();
  models_.push_back(std::move(hosted));
}

Result<void> ModelHost::set_default(std::string_view id) {
  const HostedModel* wanted = find(id);
  for (std::size_t i = 0; i < models_.size(); ++i) {
    if (models_[i].get() != wanted) continue;
    default_ = i;
    return {};
  }
  return {Errc::model_not_found, "the default model is not among those served: " + std::string(id)};
}

HostedModel* ModelHost::find(std::string_view name) const {
  if (models_.empty()) return nullptr;
  if (name.empty()) return models_[default_].get();
  const auto alias = aliases_.find(std::string(name));
  const std::string_view id = alias == aliases_.end() ? name : alias->second;
  for (const auto& hosted : models_) {
    if (hosted->options.id == id) return hosted.get();
  }
  return nullptr;
}

ModelRow ModelHost::row(const HostedModel& hosted) {
  const ModelState state = hosted.model->state();
  ModelRow row;
  row.model_id = hosted.options.id;
  row.name = hosted.options.name;
  for (const PeerStatus& peer : state.summary.peers) {
    if (peer.connected && !peer.refused) ++row.active_nodes;
  }
  row.active_sessions = hosted.sessions;
  row.avg_latency_ms = hosted.token_ms;
  row.min_vram_gb = least_gigabytes(state.summary);
  row.price = hosted.options.price_per_token;
  row.available = is_covered(state);
  return row;
}

}  // namespace farmesh::gateway
