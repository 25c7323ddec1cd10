#include "ledger/work_log.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/assert.hpp"

namespace farmesh {
namespace {

void add(std::vector<WorkSegment>& segments, std::span<const WorkHop> route, std::uint32_t tokens) {
  if (tokens == 0) return;
  if (segments.empty() || !std::ranges::equal(segments.back().route, route)) {
    segments.push_back({0, {route.begin(), route.end()}});
  }
  segments.back().tokens += tokens;
}

std::uint32_t sum(const std::vector<WorkSegment>& segments) noexcept {
  std::uint32_t tokens = 0;
  for (const WorkSegment& segment : segments) tokens += segment.tokens;
  return tokens;
}

}  // namespace

void WorkLog::add_prompt(std::span<const WorkHop> route, std::uint32_t tokens) {
  add(prompt, route, tokens);
}

void WorkLog::add_output(std::span<const WorkHop> route, std::uint32_t tokens) {
  add(output, route, tokens);
}

void WorkLog::keep_output(std::uint32_t tokens) {
  for (auto segment = output.begin(); segment != output.end(); ++segment) {
    segment->tokens = std::min(segment->tokens, tokens);
    tokens -= segment->tokens;
    if (segment->tokens == 0) {
      output.erase(segment, output.end());
      return;
    }
  }
}

std::uint32_t WorkLog::prompt_tokens() const noexcept { return sum(prompt); }
std::uint32_t WorkLog::output_tokens() const noexcept { return sum(output); }

namespace ledger {
namespace {

using nlohmann::json;

Error invalid(std::string what) { return {Errc::invalid_argument, "work log: " + what}; }

bool is_node_id(std::string_view id) {
  return id.size() == 64 && id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<void> check_route(const std::vector<WorkHop>& route) {
  if (route.size() > wire::kMaxHops) return invalid("too many stages");
  std::vector<Span> spans;
  int heads = 0;
  for (const WorkHop& hop : route) {
    if (!hop.node_id.empty() && !is_node_id(hop.node_id)) return invalid("not a node id");
    if (hop.layers.begin > hop.layers.end || hop.layers.end > wire::kMaxLayers) {
      return invalid("layers out of bounds");
    }
    if (hop.layers.empty() && (!hop.head || hop.node_id.empty())) {
      return invalid("a stage that does nothing");
    }
    heads += hop.head ? 1 : 0;
    if (!hop.layers.empty()) spans.push_back(hop.layers);
  }
  if (heads > 1) return invalid("two heads");
  std::sort(spans.begin(), spans.end());
  const auto overlap = std::adjacent_find(spans.begin(), spans.end(),
                                          [](Span a, Span b) { return b.begin < a.end; });
  return overlap == spans.end() ? Result<void>() : invalid("layers served twice");
}

Result<void> check_segments(const std::vector<WorkSegment>& segments) {
  if (segments.size() > kMaxSegments) return invalid("too many changes of route");
  std::uint64_t tokens = 0;
  for (const WorkSegment& segment : segments) {
    if (segment.tokens == 0) return invalid("a segment without tokens");
    tokens += segment.tokens;
    const Result<void> route = check_route(segment.route);
    if (!route) return route;
  }
  return tokens <= kMaxTokens ? Result<void>() : invalid("too many tokens");
}

// By hand: this is written for every session, and holds no text that needs escaping.
void encode_segments(std::string& out, const std::vector<WorkSegment>& segments) {
  out += '[';
  for (const WorkSegment& segment : segments) {
    if (&segment != &segments.front()) out += ',';
    out += "{\"tokens\":" + std::to_string(segment.tokens) + ",\"route\":[";
    for (const WorkHop& hop : segment.route) {
      if (&hop != &segment.route.front()) out += ',';
      out += "[\"" + hop.node_id + "\"," + std::to_string(hop.layers.begin) + ',' +
             std::to_string(hop.layers.end) + (hop.head ? ",true]" : ",false]");
    }
    out += "]}";
  }
  out += ']';
}

bool read_number(const json& value, std::uint32_t& out) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0xffffffffu) return false;
  out = value.get<std::uint32_t>();
  return true;
}

bool decode_segments(const json& object, const char* name, std::vector<WorkSegment>& segments) {
  const auto list = object.find(name);
  if (list == object.end() || !list->is_array()) return false;
  for (const json& element : *list) {
    WorkSegment& segment = segments.emplace_back();
    if (!element.is_object() || !element.contains("tokens") || !element.contains("route")) {
      return false;
    }
    if (!read_number(element["tokens"], segment.tokens)) return false;
    if (!element["route"].is_array()) return false;
    for (const json& stage : element["route"]) {
      if (!stage.is_array() || stage.size() != 4) return false;
      if (!stage[0].is_string() || !stage[3].is_boolean()) return false;
      WorkHop& hop = segment.route.emplace_back();
      hop.node_id = stage[0].get<std::string>();
      hop.head = stage[3].get<bool>();
      if (!read_number(stage[1], hop.layers.begin)) return false;
      if (!read_number(stage[2], hop.layers.end)) return false;
    }
  }
  return true;
}

// A part of a price in base units, rounded down; the product may need more than 64 bits.
std::int64_t fee_units(Far price, std::uint32_t bps) {
  const std::int64_t units = price.units();
  return units / 10'000 * bps + units % 10'000 * bps / 10'000;
}

Payout& payout_of(std::vector<Payout>& payouts, const TokenShare& share) {
  auto found = std::find_if(payouts.begin(), payouts.end(),
                            [&](const Payout& payout) { return payout.node_id == share.node_id; });
  if (found == payouts.end()) found = payouts.insert(found, Payout{share.node_id, 0, 0, {}, {}});
  for (const Span span : share.spans) {
    for (std::uint32_t layer = span.begin; layer < span.end; ++layer) {
      const auto at = std::lower_bound(found->layers.begin(), found->layers.end(), layer);
      if (at == found->layers.end() || *at != layer) found->layers.insert(at, layer);
    }
  }
  return *found;
}

}  // namespace

Result<void> check_work(const WorkLog& log) {
  const Result<void> prompt = check_segments(log.prompt);
  return prompt ? check_segments(log.output) : prompt;
}

std::string encode_work(const WorkLog& log) {
  std::string text = "{\"prompt\":";
  encode_segments(text, log.prompt);
  text += ",\"output\":";
  encode_segments(text, log.output);
  text += '}';
  return text;
}

Result<WorkLog> decode_work(std::string_view text) {
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  WorkLog log;
  if (!parsed.is_object() || !decode_segments(parsed, "prompt", log.prompt) ||
      !decode_segments(parsed, "output", log.output) || !check_work(log)) {
    return Error{Errc::ledger_damaged, "a session's work log is damaged"};
  }
  return log;
}

Result<Settlement> settle(const WorkLog& log, const Prices& prices) {
  const Error too_large{Errc::amount_invalid,
                        "the cost of the session is beyond the largest amount"};
  Settlement settlement;
  settlement.tokens = log.output_tokens();
  settlement.prompt_tokens = log.prompt_tokens();
  for (const TokenShare& share : split_tokens(log.output, prices.split)) {
    payout_of(settlement.payouts, share).tokens = share.tokens;
  }
  for (const TokenShare& share : split_tokens(log.prompt, prices.split)) {
    payout_of(settlement.payouts, share).prompt_tokens = share.tokens;
  }

  const Far fee_per_token = Far::from_units(fee_units(prices.per_token, prices.fee_bps));
  const Far fee_per_prompt = Far::from_units(fee_units(prices.per_prompt_token, prices.fee_bps));
  const auto total = [&](Far token, Far prompt_token, std::uint32_t tokens,
                         std::uint32_t prompt_tokens) -> std::optional<Far> {
    const std::optional<Far> output = token.times(tokens);
    const std::optional<Far> prompt = prompt_token.times(prompt_tokens);
    return output && prompt ? output->plus(*prompt) : std::nullopt;
  };
  const auto cost =
      total(prices.per_token, prices.per_prompt_token, settlement.tokens, settlement.prompt_tokens);
  if (!cost) return too_large;
  settlement.cost = *cost;
  settlement.fee =
      *total(fee_per_token, fee_per_prompt, settlement.tokens, settlement.prompt_tokens);

  std::int64_t sum = settlement.fee.units();
  const Far pay_per_token = *prices.per_token.minus(fee_per_token);
  const Far pay_per_prompt = *prices.per_prompt_token.minus(fee_per_prompt);
  for (Payout& payout : settlement.payouts) {
    payout.payment = *total(pay_per_token, pay_per_prompt, payout.tokens, payout.prompt_tokens);
    sum += payout.payment.units();
  }
  FARMESH_ASSERT(sum == settlement.cost.units());
  return settlement;
}

}  // namespace ledger
}  // namespace farmesh
