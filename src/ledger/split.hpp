// How a session's tokens are shared among those who made them: a pure function of the step log.
//
// With T tokens and weights w that sum to W, each gets floor(T·w/W) tokens; those left over go one
// each to the nodes last in route order. Integers only; the shares always sum to T.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <farmesh/ledger.hpp>

#include "base/assert.hpp"
#include "wire/messages.hpp"

namespace farmesh::ledger {

inline constexpr std::uint32_t kMaxTokens = wire::kMaxPosition;  // of one session
inline constexpr std::size_t kMaxSegments = 4'096;               // changes of route in one session

struct TokenShare {
  std::string node_id;       // empty: the operator
  std::uint64_t weight = 0;  // units
  std::uint32_t tokens = 0;
  std::vector<Span> spans;  // whatever it served, by first layer
};

/// What one stage is worth for each token that passed it.
inline std::uint64_t units_of(const WorkHop& hop, SplitPolicy policy) noexcept {
  if (policy == SplitPolicy::equal) return 1;
  const bool paid_head = hop.head && !hop.node_id.empty();
  return std::uint64_t{hop.layers.size()} + (paid_head ? 1 : 0);
}

namespace detail {

// A node's place in the route: its first layer; a head without layers comes last, where the
// logits are. Of two nodes that served the same place, the one that came later is later.
struct Place {
  std::uint32_t first_layer = 0;
  std::size_t arrival = 0;
  friend auto operator<=>(const Place&, const Place&) = default;
};

struct Entry {
  TokenShare share;
  Place place;
};

inline void add_hop(std::vector<Entry>& entries, const WorkHop& hop, std::uint32_t tokens,
                    SplitPolicy policy) {
  auto found = std::find_if(entries.begin(), entries.end(),
                            [&](const Entry& entry) { return entry.share.node_id == hop.node_id; });
  const std::uint32_t first = hop.layers.empty() ? wire::kMaxLayers : hop.layers.begin;
  if (found == entries.end()) {
    found = entries.insert(found, Entry{{hop.node_id, 0, 0, {}}, {first, entries.size()}});
  }
  found->share.weight += tokens * units_of(hop, policy);
  found->place.first_layer = std::min(found->place.first_layer, first);
  std::vector<Span>& spans = found->share.spans;
  if (!hop.layers.empty() && std::find(spans.begin(), spans.end(), hop.layers) == spans.end()) {
    spans.insert(std::upper_bound(spans.begin(), spans.end(), hop.layers), hop.layers);
  }
}

inline void add_fallback(std::vector<TokenShare>& shares, std::uint32_t tokens) {
  auto mine = std::find_if(shares.begin(), shares.end(),
                           [](const TokenShare& share) { return share.node_id.empty(); });
  if (mine == shares.end()) mine = shares.insert(mine, TokenShare{});
  mine->tokens += tokens;
}

}  // namespace detail

/// Shares in route order. `segments` must pass check_work() (work_log.hpp). Tokens without a route
/// are a fallback's: the operator's, one for one.
inline std::vector<TokenShare> split_tokens(std::span<const WorkSegment> segments,
                                            SplitPolicy policy) {
  std::vector<detail::Entry> entries;
  std::uint64_t total = 0;
  std::uint32_t fallback = 0;
  for (const WorkSegment& segment : segments) {
    if (segment.route.empty()) fallback += segment.tokens;
    if (!segment.route.empty()) total += segment.tokens;
    for (const WorkHop& hop : segment.route) {
      detail::add_hop(entries, hop, segment.tokens, policy);
    }
  }
  FARMESH_ASSERT(total + fallback <= kMaxTokens);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.place < b.place; });

  std::uint64_t weights = 0;
  for (const detail::Entry& entry : entries) weights += entry.share.weight;
  FARMESH_ASSERT(weights > 0 || total == 0);
  std::vector<TokenShare> shares;
  std::uint64_t left = total;
  for (detail::Entry& entry : entries) {
    // Within 64 bits: tokens at most 2^24, units of a token at most 2^11.
    if (total > 0) {
      entry.share.tokens = static_cast<std::uint32_t>(total * entry.share.weight / weights);
    }
    left -= entry.share.tokens;
    shares.push_back(std::move(entry.share));
  }
  // Each share with a weight lost less than one token, so fewer are left than such shares.
  for (auto share = shares.rbegin(); share != shares.rend() && left > 0; ++share) {
    if (share->weight == 0) continue;
    ++share->tokens;
    --left;
  }
  FARMESH_ASSERT(left == 0);
  if (fallback > 0) detail::add_fallback(shares, fallback);
  return shares;
}

}  // namespace farmesh::ledger
