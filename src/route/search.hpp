// The cheapest way through the layers of a graph of candidates. Internal to route/.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "route/cost.hpp"

namespace farmesh::route {

struct Leg {
  std::uint32_t candidate = 0;
  Span span;
};
struct Plan {
  Cost cost;
  std::vector<Leg> legs;
};

/// The cheapest plan in which no candidate comes twice; nothing if some layer is open to nobody.
/// Exact unless a plan that comes back to a peer cannot be mended within a bounded number of
/// searches: then the peer runs what lies between as well.
std::optional<Plan> search(const Graph& graph);

}  // namespace farmesh::route
