#include "route/planner.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

namespace farmesh::route {
namespace {

constexpr std::size_t kNobody = ~std::size_t{0};
constexpr int kMaxBranches = 256;

/// What a route is judged by, in this order.
struct Cost {
  std::uint32_t banned_layers = ~0u;  // run by banned peers; this value: impossible
  std::int64_t ns = 0;                // expected time of a token
  std::uint32_t hops = 0;
  friend constexpr auto operator<=>(const Cost&, const Cost&) = default;

  bool possible() const noexcept { return banned_layers != ~0u; }
};

Cost operator+(const Cost& a, const Cost& b) {
  if (!a.possible() || !b.possible()) return {};
  return {a.banned_layers + b.banned_layers, a.ns + b.ns, a.hops + b.hops};
}

/// A peer as one plan may use it.
struct Candidate {
  std::size_t index = 0;        // in the view
  Span span;                    // the part of its layers that may be used
  bool first_only = false;      // may only begin the route
  std::vector<bool> forbidden;  // by layer of the plan; empty: none
  Cost entry;                   // once, for coming to it and leaving it
  Cost layer;                   // for each layer
};

struct Leg {
  std::size_t candidate = 0;
  Span span;
};
struct Plan {
  Cost cost;
  std::vector<Leg> legs;
};

std::int64_t bounded_ns(Duration measured, Duration unknown) {
  const Duration time = measured > Duration::zero() ? measured : unknown;
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  constexpr std::int64_t kHour = 3'600'000'000'000;  // a lie must not overflow a sum
  return std::clamp<std::int64_t>(ns, 0, kHour);
}

Candidate make_candidate(const PeerView& peer, std::size_t index, Span layers,
                         const Policy& policy) {
  Candidate candidate;
  candidate.index = index;
  candidate.span = {std::max(peer.span.begin, layers.begin), std::min(peer.span.end, layers.end)};
  candidate.first_only = !peer.reachable_by_peers;
  const std::int64_t layer_ns = bounded_ns(peer.layer_time, policy.unknown_layer_time);
  candidate.layer = {peer.banned ? 1u : 0u, layer_ns, 0};
  // Half a round trip on the way in and half on the way out: what a hop between two peers costs
  // is not measured, and is bounded by their ways to the driver.
  const std::int64_t round_trip = peer.reachable_by_peers
                                      ? bounded_ns(peer.round_trip, policy.unknown_round_trip)
                                      : bounded_ns(peer.round_trip, Duration::zero());
  // Rows that wait there share passes with ours: each delays us by about one layer.
  const std::int64_t queue = layer_ns * std::min(peer.queued_rows, 65'536u);
  candidate.entry = {0, round_trip + bounded_ns(policy.hop_overhead, Duration::zero()) + queue, 1};
  return candidate;
}

/// The least cost from each layer to the end, backwards. `inside[c]` is the cost from a layer on
/// when candidate c runs that layer and has been entered already. Ties go to the earlier
/// candidate, and to staying over leaving.
class Search {
 public:
  Search(const std::vector<Candidate>& candidates, Span layers)
      : candidates_(candidates), layers_(layers) {}

  std::optional<Plan> run() {
    const std::size_t count = layers_.size();
    best_.assign(count + 1, {});
    entered_.assign(count + 1, kNobody);
    stays_.assign(candidates_.size() * count, false);
    std::vector<Cost> inside(candidates_.size());
    best_[count] = {0, 0, 0};
    for (std::size_t layer = count; layer-- > 0;) relax(layer, inside);
    if (!best_[0].possible()) return std::nullopt;
    return trace();
  }

 private:
  void relax(std::size_t layer, std::vector<Cost>& inside) {
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      const Candidate& candidate = candidates_[c];
      if (!may_run(candidate, layer)) {
        inside[c] = {};
        continue;
      }
      const bool stays = inside[c] <= best_[layer + 1];
      stays_[c * layers_.size() + layer] = stays;
      inside[c] = (stays ? inside[c] : best_[layer + 1]) + candidate.layer;
      if (candidate.first_only && layer > 0) continue;
      const Cost entered = inside[c] + candidate.entry;
      if (entered < best_[layer]) {
        best_[layer] = entered;
        entered_[layer] = c;
      }
    }
  }

  bool may_run(const Candidate& candidate, std::size_t layer) const {
    const std::uint32_t absolute = layers_.begin + static_cast<std::uint32_t>(layer);
    return candidate.span.begin <= absolute && absolute < candidate.span.end &&
           (candidate.forbidden.empty() || !candidate.forbidden[layer]);
  }

  Plan trace() const {
    Plan plan{best_[0], {}};
    for (std::size_t layer = 0; layer < layers_.size();) {
      const std::size_t c = entered_[layer];
      const std::size_t begin = layer;
      while (stays_[c * layers_.size() + layer]) ++layer;
      ++layer;
      plan.legs.push_back({c,
                           {layers_.begin + static_cast<std::uint32_t>(begin),
                            layers_.begin + static_cast<std::uint32_t>(layer)}});
    }
    return plan;
  }

  const std::vector<Candidate>& candidates_;
  Span layers_;
  std::vector<Cost> best_;            // by layer: the least cost from here when a hop begins here
  std::vector<std::size_t> entered_;  // by layer: the candidate that best_ begins with
  std::vector<bool> stays_;           // [candidate, layer]: goes on with the next layer
};

/// The first leg whose peer comes again later; nothing if every peer comes once.
std::optional<Leg> repeated(const Plan& plan) {
  for (std::size_t i = 0; i < plan.legs.size(); ++i) {
    for (std::size_t j = i + 1; j < plan.legs.size(); ++j) {
      if (plan.legs[i].candidate == plan.legs[j].candidate) return plan.legs[i];
    }
  }
  return std::nullopt;
}

void forbid(Candidate& candidate, Span span, Span layers) {
  candidate.forbidden.resize(layers.size(), false);
  for (std::uint32_t layer = span.begin; layer < span.end; ++layer) {
    candidate.forbidden[layer - layers.begin] = true;
  }
}

/// A session has one span on a peer, but the search may come back to a peer after `leg`. In every
/// route that does not, the peer runs only layers before the one where it was left, or only
/// layers after that one, or that one too.
std::vector<std::vector<Candidate>> branches(const std::vector<Candidate>& candidates,
                                             const Leg& leg, Span layers) {
  const std::uint32_t left_at = leg.span.end;  // run by another peer in the rejected plan
  const std::size_t peer = leg.candidate;
  std::vector<std::vector<Candidate>> result(3, candidates);
  forbid(result[0][peer], {left_at, layers.end}, layers);
  forbid(result[1][peer], {layers.begin, left_at + 1}, layers);
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    if (c != peer) forbid(result[2][c], {left_at, left_at + 1}, layers);
  }
  return result;
}

/// The plan with the fewest hops. It never repeats a peer: staying would save a hop.
std::optional<Plan> search_shortest(const std::vector<Candidate>& candidates, Span layers) {
  std::vector<Candidate> equals = candidates;
  for (Candidate& candidate : equals) {
    candidate.entry = {0, 0, 1};
    candidate.layer = {0, 0, 0};
  }
  std::optional<Plan> plan = Search(equals, layers).run();
  if (!plan) return plan;
  plan->cost = {0, 0, 0};
  for (const Leg& leg : plan->legs) {
    plan->cost = plan->cost + candidates[leg.candidate].entry;
    for (std::uint32_t i = 0; i < leg.span.size(); ++i) {
      plan->cost = plan->cost + candidates[leg.candidate].layer;
    }
  }
  return plan;
}

/// The cheapest plan in which no peer comes twice: branch and bound over Search, whose plans are
/// the bounds. Repeats are rare and mostly gone after one branch; should they not be, a route
/// that is merely short is better than a slow planner.
std::optional<Plan> search_simple(const std::vector<Candidate>& candidates, Span layers) {
  struct Node {
    Plan plan;
    std::vector<Candidate> candidates;
  };
  std::optional<Plan> bound = Search(candidates, layers).run();
  if (!bound || !repeated(*bound)) return bound;
  std::vector<Node> open{{std::move(*bound), candidates}};
  for (int branch = 0; !open.empty() && branch < kMaxBranches; ++branch) {
    const auto cheapest =
        std::min_element(open.begin(), open.end(),
                         [](const Node& a, const Node& b) { return a.plan.cost < b.plan.cost; });
    Node node = std::move(*cheapest);
    open.erase(cheapest);
    const std::optional<Leg> leg = repeated(node.plan);
    if (!leg) return std::move(node.plan);
    for (auto& narrowed : branches(node.candidates, *leg, layers)) {
      std::optional<Plan> plan = Search(narrowed, layers).run();
      if (plan) open.push_back({std::move(*plan), std::move(narrowed)});
    }
  }
  return search_shortest(candidates, layers);
}

bool holds(const PeerView& peer, std::uint32_t layer, Span layers) {
  return peer.span.contains({layer, layer + 1}) &&
         (peer.reachable_by_peers || peer.span.contains({layers.begin, layer + 1}));
}

/// Names the first layer that no peer (of `numerics_class`, unless that is empty) holds.
Error no_route(std::span<const PeerView> peers, Span layers, const std::string& numerics_class) {
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    const bool held = std::any_of(peers.begin(), peers.end(), [&](const PeerView& peer) {
      return holds(peer, layer, layers) &&
             (numerics_class.empty() || peer.numerics_class == numerics_class);
    });
    if (held) continue;
    std::string detail = "no peer holds layer " + std::to_string(layer);
    if (!numerics_class.empty()) detail += " in numerics class " + numerics_class;
    return {Errc::no_route, std::move(detail)};
  }
  return {Errc::no_route, "no single numerics class covers all layers"};
}

}  // namespace

Result<Route> plan(std::span<const PeerView> peers, Span layers, const Policy& policy) {
  if (layers.empty()) return Route{};
  std::vector<std::string_view> classes;
  for (const PeerView& peer : peers) {
    const bool wanted =
        policy.numerics_class.empty() || peer.numerics_class == policy.numerics_class;
    const bool known =
        std::find(classes.begin(), classes.end(), peer.numerics_class) != classes.end();
    if (wanted && !known) classes.push_back(peer.numerics_class);
  }
  Cost least;
  Route route;
  for (const std::string_view numerics_class : classes) {
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < peers.size(); ++i) {
      if (peers[i].numerics_class != numerics_class) continue;
      Candidate candidate = make_candidate(peers[i], i, layers, policy);
      if (!candidate.span.empty()) candidates.push_back(std::move(candidate));
    }
    const std::optional<Plan> best = search_simple(candidates, layers);
    if (!best || best->cost >= least) continue;
    least = best->cost;
    route.clear();
    for (const Leg& leg : best->legs) {
      route.push_back({peers[candidates[leg.candidate].index].address, leg.span});
    }
  }
  if (route.empty()) return no_route(peers, layers, policy.numerics_class);
  return route;
}

}  // namespace farmesh::route
