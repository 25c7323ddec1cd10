#include "route/planner.hpp"

#include <algorithm>
#include <optional>

#include "route/cost.hpp"
#include "route/search.hpp"

namespace farmesh::route {
namespace {

bool wanted(const PeerView& peer, const Policy& policy) {
  return policy.numerics_class.empty() || peer.numerics_class == policy.numerics_class;
}

bool holds(const PeerView& peer, std::uint32_t layer, Span layers) {
  return peer.span.contains({layer, layer + 1}) &&
         (peer.reachable_by_peers || peer.span.contains({layers.begin, layer + 1}));
}

/// Names the first layer that no wanted peer holds, or has room to run.
Error no_route(std::span<const PeerView> peers, Span layers, const Policy& policy) {
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    bool held = false;
    bool has_room = false;
    for (const PeerView& peer : peers) {
      if (!wanted(peer, policy) || !holds(peer, layer, layers)) continue;
      held = true;
      has_room = has_room || !lacks_room(peer, policy);
    }
    if (held && !has_room) {
      return {Errc::no_cache_space, "no peer that holds layer " + std::to_string(layer) +
                                        " has room for " + std::to_string(policy.session_tokens) +
                                        " tokens"};
    }
    if (held) continue;
    std::string detail = "no peer holds layer " + std::to_string(layer);
    if (!policy.numerics_class.empty()) detail += " in numerics class " + policy.numerics_class;
    return {Errc::no_route, std::move(detail)};
  }
  const bool some_lack_room = std::any_of(peers.begin(), peers.end(), [&](const PeerView& peer) {
    return wanted(peer, policy) && lacks_room(peer, policy);
  });
  if (some_lack_room) {
    return {Errc::no_cache_space,
            "no route has room for " + std::to_string(policy.session_tokens) + " tokens"};
  }
  return {Errc::no_route, "no single numerics class covers all layers"};
}

}  // namespace

Result<Route> plan(std::span<const PeerView> peers, Span layers, const Policy& policy,
                   std::span<const LinkView> links) {
  if (layers.empty()) return Route{};
  std::vector<std::string> classes;  // in order of first mention
  for (const PeerView& peer : peers) {
    const bool known =
        std::find(classes.begin(), classes.end(), peer.numerics_class) != classes.end();
    if (wanted(peer, policy) && !known) classes.push_back(peer.numerics_class);
  }
  Cost least;
  Route route;
  for (const std::string& numerics_class : classes) {
    Graph graph = make_graph(peers, layers, numerics_class, policy, links);
    limit_crowds(graph, peers);
    const std::optional<Plan> best = search(graph);
    if (!best || best->cost >= least) continue;
    least = best->cost;
    route.clear();
    for (const Leg& leg : best->legs) {
      route.push_back({peers[graph.candidates[leg.candidate].index].address, leg.span});
    }
  }
  if (route.empty()) return no_route(peers, layers, policy);
  return route;
}

}  // namespace farmesh::route
