#include "ledger/proof.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace farmesh::ledger {
namespace {

using Place = std::pair<std::string, Span>;  // a node and the layers that it ran
using Claims = std::map<Place, wire::TokenCounts>;

Claims last_words(std::span<const wire::Receipt> receipts) {
  std::map<Place, wire::Receipt> newest;
  for (const wire::Receipt& receipt : receipts) {
    wire::Receipt& known = newest[{to_string(receipt.node_id), receipt.span}];
    if (receipt.sequence >= known.sequence) known = receipt;
  }
  Claims claims;
  for (const auto& [place, receipt] : newest) {
    if (receipt.final && !receipt.head) claims[place] = receipt.counts;
  }
  return claims;
}

std::uint64_t logged(const WorkLog& log, const WorkHop& hop) {
  std::uint64_t tokens = 0;
  for (const WorkSegment& segment : log.output) {
    const auto is_it = [&hop](const WorkHop& other) {
      return other.node_id == hop.node_id && other.layers == hop.layers;
    };
    if (std::ranges::any_of(segment.route, is_it)) tokens += segment.tokens;
  }
  return tokens;
}

/// Tokens beyond the log that every node of the route has seen go on; nothing while one of them has
/// not said its last.
std::optional<std::uint64_t> beyond(const WorkLog& log, const std::vector<WorkHop>& route,
                                    const Claims& claims, const ProofTerms& terms) {
  std::optional<std::uint64_t> least;
  for (const WorkHop& hop : route) {
    if (hop.node_id.empty()) continue;
    const auto claim = claims.find({hop.node_id, hop.layers});
    if (claim == claims.end()) return std::nullopt;
    const std::uint64_t known = logged(log, hop) + terms.repeated_tokens;
    const std::uint64_t more = claim->second.decode > known ? claim->second.decode - known : 0;
    least = std::min(least.value_or(more), more);
  }
  return least.value_or(0);
}

/// The one way to put every layer together of the runs that were claimed, if it takes all of them.
std::optional<std::vector<WorkHop>> only_route(const Claims& claims, std::uint32_t num_layers) {
  std::vector<WorkHop> route;
  for (const auto& [place, counts] : claims) {
    if (counts.decode > 0) route.push_back({place.first, place.second});
  }
  std::ranges::sort(route, {}, [](const WorkHop& hop) { return hop.layers.begin; });
  std::uint32_t next = 0;
  for (const WorkHop& hop : route) {
    if (hop.layers.begin != next || hop.layers.empty()) return std::nullopt;
    next = hop.layers.end;
  }
  if (next != num_layers) return std::nullopt;
  return route;
}

std::uint64_t room(const WorkLog& log, const ProofTerms& terms) {
  const std::uint64_t tokens = log.output_tokens();
  return terms.most_tokens > tokens ? terms.most_tokens - tokens : 0;
}

Proof prove_unsaved(const Claims& claims, const ProofTerms& terms) {
  Proof proof;
  const auto route = only_route(claims, terms.num_layers);
  if (!route) return proof;
  proof.complete = true;
  const std::uint64_t tokens = std::min(*beyond(proof.log, *route, claims, terms), room({}, terms));
  if (tokens == 0) return proof;
  std::uint64_t prompt = terms.most_prompt_tokens;
  for (const WorkHop& hop : *route) {
    prompt = std::min(prompt, claims.at({hop.node_id, hop.layers}).prefill);
  }
  proof.log.add_prompt(*route, std::uint32_t(prompt));
  proof.log.add_output(*route, std::uint32_t(tokens));
  return proof;
}

}  // namespace

Proof prove(const WorkLog& saved, std::span<const wire::Receipt> receipts,
            const ProofTerms& terms) {
  const Claims claims = last_words(receipts);
  if (saved.output.empty()) return prove_unsaved(claims, terms);
  Proof proof{saved, false};
  // Routes that were left earlier may have gone on in a text beside the last one's.
  std::vector<std::vector<WorkHop>> routes;
  for (auto segment = saved.output.rbegin(); segment != saved.output.rend(); ++segment) {
    if (std::ranges::find(routes, segment->route) == routes.end()) routes.push_back(segment->route);
  }
  for (const std::vector<WorkHop>& route : routes) {
    const auto more = beyond(proof.log, route, claims, terms);
    if (&route == &routes.front()) proof.complete = more.has_value();
    const std::uint64_t tokens = std::min(more.value_or(0), room(proof.log, terms));
    if (tokens > 0) proof.log.add_output(route, std::uint32_t(tokens));
  }
  return proof;
}

}  // namespace farmesh::ledger
