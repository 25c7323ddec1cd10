// Whose layers a session may use, by node id: what a tier buys.
//
// Made by whoever admits the session, looked at by chain_plan.cpp whenever it plans. Immutable.
#pragma once

#include <algorithm>
#include <vector>

#include "base/node_id.hpp"

namespace farmesh::driver {

struct NodeChoice {
  std::vector<NodeId> nodes;  // ascending
  /// Others serve where none of these does; false: nobody else, and no_route then.
  bool others_too = false;

  bool contains(const NodeId& node) const {
    return std::binary_search(nodes.begin(), nodes.end(), node);
  }
};

}  // namespace farmesh::driver
