#include "gateway/tier_nodes.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "gateway/json_fields.hpp"

namespace farmesh::gateway {
namespace {

using nlohmann::json;

constexpr std::uintmax_t kMaxFileBytes = 1 << 20;
constexpr std::size_t kMaxLocationBytes = 255;

// The texts of a list; nothing, and a fault, when it is none.
std::vector<std::string> texts(JsonFields& fields, const char* key) {
  std::vector<std::string> all;
  const json* const list = fields.find(key);
  if (list == nullptr) return all;
  if (!list->is_array()) fields.fail_type(key, "a list of texts", *list);
  for (const json& text : *list) {
    if (!text.is_string() || text.get_ref<const std::string&>().size() > kMaxLocationBytes) {
      fields.fail(key, "invalid_value",
                  "Invalid '" + fields.path(key) + "': expected short texts.");
      break;
    }
    all.push_back(text);
  }
  return all;
}

TierRule rule_of(JsonFields& fields) {
  TierRule rule;
  rule.min_reliability = fields.number("min_reliability", 0, 1).value_or(0);
  rule.max_latency_ms = fields.number("max_latency_ms", 0, 1e9).value_or(0);
  rule.locations = texts(fields, "locations");
  rule.others_too = fields.flag("others_too").value_or(false);
  for (const std::string& text : texts(fields, "nodes")) {
    const Result<NodeId> node = parse_node_id(text);
    if (node) {
      rule.nodes.push_back(*node);
    } else {
      fields.fail("nodes", "invalid_value", node.error().detail);
    }
  }
  std::sort(rule.nodes.begin(), rule.nodes.end());
  fields.refuse_others();
  return rule;
}

bool fits(const TierRule& rule, const ledger::ListedNode& node, const NodeId& id) {
  if (!rule.nodes.empty() && !std::binary_search(rule.nodes.begin(), rule.nodes.end(), id)) {
    return false;
  }
  if (node.reliability_score < rule.min_reliability) return false;
  if (rule.max_latency_ms > 0 && node.avg_latency_ms.value_or(0) > rule.max_latency_ms) {
    return false;
  }
  return rule.locations.empty() ||
         std::any_of(rule.locations.begin(), rule.locations.end(),
                     [&node](const std::string& at) { return node.location.starts_with(at); });
}

}  // namespace

Result<TierRules> read_tier_rules(const std::string& file) {
  std::error_code failure;
  const std::uintmax_t size = std::filesystem::file_size(file, failure);
  if (failure || size > kMaxFileBytes) {
    return {Errc::config_invalid, "cannot be read, or is above 1 MiB: " + file};
  }
  std::ifstream stream(file);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const Checked<json> parsed = parse_body(text);
  if (!parsed) return {Errc::config_invalid, file + ": " + parsed.problem().message};
  TierRules rules;
  for (const auto& [tier, object] : parsed->items()) {
    if (tier != "standard" && tier != "premium" && tier != "enterprise") {
      return {Errc::config_invalid, file + ": tiers are standard, premium and enterprise"};
    }
    if (!object.is_object()) return {Errc::config_invalid, file + ": " + tier + " is no object"};
    JsonFields fields(object, tier);
    rules[tier] = rule_of(fields);
    if (fields.failed()) return {Errc::config_invalid, file + ": " + fields.problem().message};
  }
  return rules;
}

TierNodes::TierNodes(TierRules rules, std::shared_ptr<ledger::Store> store)
    : rules_(std::move(rules)), store_(std::move(store)) {
  for (const auto& [tier, rule] : rules_) {
    auto given = std::make_shared<driver::NodeChoice>();
    given->others_too = rule.others_too;
    if (!rule.asks_registry()) given->nodes = rule.nodes;
    given_[tier] = std::move(given);
  }
}

Result<void> TierNodes::refresh(const std::vector<std::string>& model_ids) {
  const bool asks = std::any_of(rules_.begin(), rules_.end(),
                                [](const auto& rule) { return rule.second.asks_registry(); });
  if (!store_ || !asks) return {};
  ledger::NodeRegistry registry(store_);
  for (const std::string& model_id : model_ids) {
    const auto listed = registry.active_nodes(model_id);
    if (!listed) return listed.error();
    for (const auto& [tier, rule] : rules_) {
      if (!rule.asks_registry()) continue;
      auto choice = std::make_shared<driver::NodeChoice>();
      choice->others_too = rule.others_too;
      for (const ledger::ListedNode& node : *listed) {
        const Result<NodeId> id = parse_node_id(node.node_id);
        if (id && fits(rule, node, *id)) choice->nodes.push_back(*id);
      }
      std::sort(choice->nodes.begin(), choice->nodes.end());
      const std::lock_guard lock(mutex_);
      choices_[{model_id, tier}] = std::move(choice);
    }
  }
  return {};
}

std::shared_ptr<const driver::NodeChoice> TierNodes::choice(const std::string& model_id,
                                                            std::string_view tier) const {
  const auto given = given_.find(tier);
  if (given == given_.end()) return nullptr;
  const std::lock_guard lock(mutex_);
  const auto found = choices_.find({model_id, std::string(tier)});
  return found == choices_.end() ? given->second : found->second;
}

}  // namespace farmesh::gateway
