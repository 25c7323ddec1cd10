// The models of one coordinator, by full id and by alias. Filled before serving, read-only
// afterwards but for the counters, and so safe from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/money.hpp>
#include <farmesh/result.hpp>

#include "gateway/model.hpp"
#include "gateway/platform_codec.hpp"

namespace farmesh::gateway {

struct HostedModelOptions {
  std::string id;    // full, such as "meta-llama/Llama-2-7b-chat-hf"
  std::string name;  // for people; empty: what follows the last slash of the id
  Far price_per_token;
  Far price_per_prompt_token;
};

struct HostedModel {
  HostedModelOptions options;
  std::shared_ptr<Model> model;
  std::int64_t created = 0;  // Unix seconds
  std::atomic<std::uint32_t> sessions = 0;
  std::atomic<double> token_ms = 0;  // moving mean over finished turns
};

/// How many nodes hold each layer, the operator's own process among them.
std::vector<std::uint32_t> coverage(const ModelState& state);
/// Whether every layer has a node, and the head where nodes host that.
bool is_covered(const ModelState& state);

/// {"alias": "full id", …}. Fails with config_invalid.
Result<std::map<std::string, std::string>> read_aliases(const std::string& file);

struct ModelPrices {
  Far token, prompt_token;
};
using Prices = std::map<std::string, ModelPrices>;  // by full id
/// {"full id": {"price": "0.001", "prompt_price": "0"}, …}; the latter may be left out. Fails with
/// config_invalid.
Result<Prices> read_prices(const std::string& file);

/// The largest price of a token: a context of tokens stays far from what an amount can hold.
inline constexpr Far kMaxPrice = Far::from_units(1'000 * Far::kUnitsPerFar);

class ModelHost {
 public:
  /// The first one is the default.
  void add(HostedModelOptions options, std::shared_ptr<Model> model);
  /// Short id → full id. An alias of a model that is not served is kept: it names it in errors.
  void set_aliases(std::map<std::string, std::string> aliases) { aliases_ = std::move(aliases); }
  /// Fails with model_not_found.
  Result<void> set_default(std::string_view id);

  /// By full id or alias; empty: the default. Null when there is none.
  HostedModel* find(std::string_view name) const;
  const std::vector<std::unique_ptr<HostedModel>>& models() const noexcept { return models_; }

  static ModelRow row(const HostedModel& hosted);

 private:
  std::vector<std::unique_ptr<HostedModel>> models_;
  std::map<std::string, std::string> aliases_;
  std::size_t default_ = 0;
};

}  // namespace farmesh::gateway
