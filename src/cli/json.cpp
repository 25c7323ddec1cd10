#include "cli/json.hpp"

#include <cmath>

namespace farmesh::cli {
namespace {

double rounded(double value) { return std::round(value * 1000) / 1000; }

}  // namespace

nlohmann::ordered_json json_of(const Token& token) {
  nlohmann::ordered_json object{{"id", token.id}, {"text", token.text}};
  if (token.top.empty()) return object;
  object["logprob"] = token.logprob;
  nlohmann::ordered_json& top = object["top"] = nlohmann::ordered_json::array();
  for (const TokenLogprob& other : token.top) {
    top.push_back({{"id", other.id}, {"logprob", other.logprob}});
  }
  return object;
}

nlohmann::ordered_json json_of(const Error& error) {
  return {{"error", name(error.code)},
          {"number", static_cast<int>(error.code)},
          {"detail", error.detail}};
}

void append_usage(nlohmann::ordered_json& object, const Usage& usage, std::uint64_t seed) {
  object["prompt_tokens"] = usage.prompt_tokens;
  object["tokens"] = usage.tokens;
  object["seed"] = seed;
  object["ttft_ms"] = rounded(usage.ttft_ms);
  object["tokens_per_second"] = rounded(usage.tokens_per_second);
  object["finish"] = name(usage.finish);
  nlohmann::ordered_json& hops = object["hops"] = nlohmann::ordered_json::array();
  for (const HopUsage& hop : usage.hops) {
    hops.push_back({{"peer", hop.peer},
                    {"span", {{"start", hop.span.begin}, {"end", hop.span.end}}},
                    {"ms", rounded(hop.ms)}});
  }
  object["recoveries"] = usage.recoveries;
  if (usage.numerics_changed) object["numerics_changed"] = true;
}

std::string to_line(const nlohmann::ordered_json& object) {
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace farmesh::cli
