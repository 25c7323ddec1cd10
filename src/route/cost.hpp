// What routes are judged by, and candidates with their costs worked out. Internal to route/.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "route/planner.hpp"

namespace farmesh::route {

/// Compared in this order.
struct Cost {
  std::uint32_t banned_layers = ~0u;  // run by banned peers; this value: impossible
  std::int64_t ns = 0;                // expected time of a token
  std::uint32_t hops = 0;
  friend constexpr auto operator<=>(const Cost&, const Cost&) = default;

  bool possible() const noexcept { return banned_layers != ~0u; }
};

inline Cost operator+(const Cost& a, const Cost& b) {
  if (!a.possible() || !b.possible()) return {};
  return {a.banned_layers + b.banned_layers, a.ns + b.ns, a.hops + b.hops};
}
inline Cost operator+(const Cost& a, std::int64_t ns) {
  return {a.banned_layers, a.ns + (a.possible() ? ns : 0), a.hops};
}

/// A peer as one plan may use it.
struct Candidate {
  std::uint32_t index = 0;   // in the view
  Span span;                 // the part of its layers that may be used
  bool first_only = false;   // may only begin the route
  std::uint32_t place = 0;   // 0: unknown
  std::int64_t way_in = 0;   // half of its round trip to the driver
  std::int64_t way_out = 0;  // the other half
  Cost entry;                // once, for using it
  Cost layer;                // for each layer
};

/// A known way between two candidates.
struct Way {
  std::uint32_t to = 0;
  std::int64_t ns = 0;
};

/// All that one search looks at.
struct Graph {
  Span layers;
  std::int64_t near_way = 0;           // within one place, at most
  std::vector<Candidate> candidates;   // in order of the view
  std::vector<std::vector<Way>> ways;  // by candidate, sorted by `to`; empty: none are known
  /// By candidate, then layer of its span: may not be run there. Begins at offsets[candidate].
  std::vector<std::uint8_t> closed;
  std::vector<std::size_t> offsets;

  std::uint8_t& closed_at(std::size_t candidate, std::uint32_t layer) {
    return closed[offsets[candidate] + layer - candidates[candidate].span.begin];
  }
};

std::int64_t bounded_ns(Duration time) noexcept;

/// The peers of `numerics_class` that hold some of the layers and, as far as is known, have room.
Graph make_graph(std::span<const PeerView> peers, Span layers, const std::string& numerics_class,
                 const Policy& policy, std::span<const LinkView> links);
bool lacks_room(const PeerView& peer, const Policy& policy) noexcept;

/// Closes layers to the worst candidates of crowded networks: afterwards at most a third of those
/// open to a layer are of one network, while three networks hold it; at least one of each stays.
void limit_crowds(Graph& graph, std::span<const PeerView> peers);

}  // namespace farmesh::route
