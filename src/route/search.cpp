#include "route/search.hpp"

#include <algorithm>
#include <utility>

namespace farmesh::route {
namespace {

constexpr std::uint32_t kStays = ~0u;  // on the same candidate
constexpr std::uint32_t kNobody = ~0u;
constexpr std::size_t kMaxBranches = 256;
constexpr std::size_t kMaxWork = 1'000'000;  // visits of a layer of a candidate, in branches

/// Candidates that may be entered at one layer, cheapest first as far as anybody asks.
class Entrants {
 public:
  struct Entrant {
    Cost cost;
    std::uint32_t candidate = 0;
  };

  void clear() {
    entrants_.clear();
    sorted_ = 0;
  }
  void add(Cost cost, std::uint32_t candidate) { entrants_.push_back({cost, candidate}); }
  void prepare() { std::make_heap(entrants_.begin(), entrants_.end(), later); }

  /// The cheapest that is not in `except`.
  const Entrant* best(const std::vector<Way>* except) {
    for (std::size_t i = 0; i < entrants_.size(); ++i) {
      if (i == sorted_) {  // taken off the heap they lie from the back on
        std::pop_heap(entrants_.begin(), entrants_.end() - std::ptrdiff_t(sorted_), later);
        ++sorted_;
      }
      const Entrant& entrant = entrants_[entrants_.size() - 1 - i];
      if (except == nullptr || !listed(*except, entrant.candidate)) return &entrant;
    }
    return nullptr;
  }

 private:
  static bool later(const Entrant& a, const Entrant& b) {
    return std::pair(a.cost, a.candidate) > std::pair(b.cost, b.candidate);
  }
  static bool listed(const std::vector<Way>& ways, std::uint32_t candidate) {
    const auto at = std::lower_bound(ways.begin(), ways.end(), candidate,
                                     [](const Way& way, std::uint32_t c) { return way.to < c; });
    return at != ways.end() && at->to == candidate;
  }

  std::vector<Entrant> entrants_;
  std::size_t sorted_ = 0;
};

/// Dynamic programming from the last layer to the first over (layer, candidate). A candidate may
/// come again after it was left: that is for search() to mend. Ties go to staying, then to the
/// earlier candidate.
class Pass {
 public:
  explicit Pass(const Graph& graph) : graph_(graph) {
    holders_.resize(graph.layers.size());
    for (std::uint32_t c = 0; c < graph.candidates.size(); ++c) {
      const Span span = graph.candidates[c].span;
      for (std::uint32_t layer = span.begin; layer < span.end; ++layer) {
        holders_[layer - graph.layers.begin].push_back(c);
      }
      places_ = std::max(places_, graph.candidates[c].place + 1);
    }
    near_.resize(places_);
    inside_.resize(graph.candidates.size());
    next_.resize(graph.closed.size());
  }

  std::optional<Plan> run(const std::vector<std::uint8_t>& closed) {
    std::fill(inside_.begin(), inside_.end(), Cost{});
    for (std::size_t at = holders_.size(); at-- > 0;) relax(static_cast<std::uint32_t>(at), closed);
    Cost best;
    std::uint32_t first = kNobody;
    for (const std::uint32_t c : holders_.front()) {
      const Candidate& candidate = graph_.candidates[c];
      const Cost cost = inside_[c] + candidate.entry + candidate.way_in;
      if (cost >= best) continue;
      best = cost;
      first = c;
    }
    if (first == kNobody) return std::nullopt;
    return trace(best, first);
  }

 private:
  std::uint32_t& next(std::uint32_t candidate, std::uint32_t layer) {
    return next_[graph_.offsets[candidate] + layer - graph_.candidates[candidate].span.begin];
  }

  /// From inside_ at the layer after `at` to inside_ at `at`.
  void relax(std::uint32_t at, const std::vector<std::uint8_t>& closed) {
    const std::uint32_t layer = graph_.layers.begin + at;
    const bool is_last = at + 1 == holders_.size();
    if (!is_last) gather(at + 1);
    for (const std::uint32_t c : holders_[at]) {
      const Candidate& candidate = graph_.candidates[c];
      if (closed[graph_.offsets[c] + layer - candidate.span.begin] != 0) continue;
      if (is_last) {
        before_.push_back({c, Cost{0, candidate.way_out, 0} + candidate.layer});
        continue;
      }
      const bool holds_next = candidate.span.end > layer + 1;
      const Cost stays = holds_next ? inside_[c] : Cost{};
      const auto [leaves, to] = leave(c);
      next(c, layer) = stays <= leaves ? kStays : to;
      before_.push_back({c, std::min(stays, leaves) + candidate.layer});
    }
    if (!is_last) {
      for (const std::uint32_t c : holders_[at + 1]) inside_[c] = {};
    }
    for (const auto& [c, cost] : before_) inside_[c] = cost;
    before_.clear();
  }

  void gather(std::uint32_t at) {
    anywhere_.clear();
    for (Entrants& near : near_) near.clear();
    for (const std::uint32_t c : holders_[at]) {
      const Candidate& candidate = graph_.candidates[c];
      if (!inside_[c].possible() || candidate.first_only) continue;
      const Cost entered = inside_[c] + candidate.entry;
      anywhere_.add(entered + candidate.way_in, c);
      if (candidate.place != 0) near_[candidate.place].add(entered, c);
    }
    anywhere_.prepare();
    for (Entrants& near : near_) near.prepare();
  }

  /// The cheapest way on for candidate `c` when another runs the next layer.
  std::pair<Cost, std::uint32_t> leave(std::uint32_t c) {
    const Candidate& candidate = graph_.candidates[c];
    const std::vector<Way>* ways = graph_.ways.empty() ? nullptr : &graph_.ways[c];
    std::pair<Cost, std::uint32_t> best{{}, kNobody};
    if (const auto* entrant = anywhere_.best(ways)) {
      best = {entrant->cost + candidate.way_out, entrant->candidate};
    }
    if (candidate.place != 0) {
      if (const auto* entrant = near_[candidate.place].best(ways)) {
        best = std::min(best, {entrant->cost + graph_.near_way, entrant->candidate});
      }
    }
    if (ways == nullptr) return best;
    for (const Way& way : *ways) {
      const Candidate& to = graph_.candidates[way.to];
      if (!inside_[way.to].possible() || to.first_only) continue;
      best = std::min(best, {inside_[way.to] + to.entry + way.ns, way.to});
    }
    return best;
  }

  Plan trace(Cost cost, std::uint32_t candidate) {
    Plan plan{cost, {}};
    for (std::uint32_t layer = graph_.layers.begin; layer < graph_.layers.end;) {
      const std::uint32_t begin = layer;
      while (layer + 1 < graph_.layers.end && next(candidate, layer) == kStays) ++layer;
      ++layer;
      plan.legs.push_back({candidate, {begin, layer}});
      if (layer < graph_.layers.end) candidate = next(candidate, layer - 1);
    }
    return plan;
  }

  const Graph& graph_;
  std::vector<std::vector<std::uint32_t>> holders_;  // candidates by layer of the plan
  std::vector<Cost> inside_;  // from a layer on, when a candidate runs it and was entered before
  std::vector<std::pair<std::uint32_t, Cost>> before_;
  std::vector<std::uint32_t> next_;  // as Graph::closed: who runs the layer after it
  Entrants anywhere_;
  std::vector<Entrants> near_;  // by place
  std::uint32_t places_ = 1;
};

/// The first two legs of one candidate.
std::optional<std::pair<std::size_t, std::size_t>> repeated(const Plan& plan) {
  for (std::size_t i = 0; i < plan.legs.size(); ++i) {
    for (std::size_t j = i + 1; j < plan.legs.size(); ++j) {
      if (plan.legs[i].candidate == plan.legs[j].candidate) return std::pair(i, j);
    }
  }
  return std::nullopt;
}

/// A session has one span on a peer, but a pass may come back to a peer after `leg`. In every
/// plan that does not, the peer runs only layers before the one where it was left, or only layers
/// after that one, or that one too.
std::vector<std::vector<std::uint8_t>> branches(const Graph& graph,
                                                const std::vector<std::uint8_t>& closed,
                                                const Leg& leg) {
  const std::uint32_t left_at = leg.span.end;  // run by another candidate in the rejected plan
  std::vector<std::vector<std::uint8_t>> result(3, closed);
  const auto close = [&graph](std::vector<std::uint8_t>& flags, std::size_t c, Span layers) {
    const Span span = graph.candidates[c].span;
    const std::uint32_t end = std::min(layers.end, span.end);
    for (std::uint32_t layer = std::max(layers.begin, span.begin); layer < end; ++layer) {
      flags[graph.offsets[c] + layer - span.begin] = 1;
    }
  };
  close(result[0], leg.candidate, {left_at, graph.layers.end});
  close(result[1], leg.candidate, {graph.layers.begin, left_at + 1});
  for (std::size_t c = 0; c < graph.candidates.size(); ++c) {
    if (c != leg.candidate) close(result[2], c, {left_at, left_at + 1});
  }
  return result;
}

/// Every peer that comes twice runs what lies between as well.
Plan merged(Plan plan) {
  while (const auto pair = repeated(plan)) {
    const auto first = plan.legs.begin() + std::ptrdiff_t(pair->first);
    const auto last = plan.legs.begin() + std::ptrdiff_t(pair->second);
    first->span.end = last->span.end;
    plan.legs.erase(first + 1, last + 1);
  }
  return plan;
}

}  // namespace

std::optional<Plan> search(const Graph& graph) {
  if (graph.candidates.empty()) return std::nullopt;
  struct Node {
    Plan plan;
    std::vector<std::uint8_t> closed;
  };
  Pass pass(graph);
  std::optional<Plan> bound = pass.run(graph.closed);
  if (!bound || !repeated(*bound)) return bound;
  // Branch and bound: a plan with repeats is no dearer than the best without.
  const std::size_t most =
      std::clamp<std::size_t>(kMaxWork / (3 * graph.closed.size() + 1), 1, kMaxBranches);
  std::vector<Node> open{{std::move(*bound), graph.closed}};
  for (std::size_t branch = 0; branch < most; ++branch) {
    const auto cheapest =
        std::min_element(open.begin(), open.end(),
                         [](const Node& a, const Node& b) { return a.plan.cost < b.plan.cost; });
    const auto pair = repeated(cheapest->plan);
    if (!pair) return std::move(cheapest->plan);
    Node node = std::move(*cheapest);
    open.erase(cheapest);
    for (auto& closed : branches(graph, node.closed, node.plan.legs[pair->first])) {
      std::optional<Plan> plan = pass.run(closed);
      if (plan) open.push_back({std::move(*plan), std::move(closed)});
    }
    // A candidate runs all of what it repeats, or some layers between are open to no other.
    if (open.empty()) return merged(std::move(node.plan));
  }
  const auto cheapest =
      std::min_element(open.begin(), open.end(),
                       [](const Node& a, const Node& b) { return a.plan.cost < b.plan.cost; });
  return merged(std::move(cheapest->plan));
}

}  // namespace farmesh::route
