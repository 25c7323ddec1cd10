// Which layers a node should serve: those that the mesh serves worst, as many as the node can hold.
//
// Takes who serves what and what this node can hold, gives a span. What a node adds to a layer is
// the fall of that layer's time a token by its being there: 1/c - 1/(c + r), with the rows a
// second c that others give the layer and r that this node would. A node that moves leaves no
// layer uncovered, and every move makes one figure of the whole mesh smaller: first the layers
// that nobody serves, while there are any the way from layers with a spare to them, else the sum
// of 1/c by a stated share at least. So moves come to an end, and a hole closes as long as the
// nodes' spans together are as long as the model.
// Pure functions, safe from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <farmesh/types.hpp>

#include "base/node_id.hpp"

namespace farmesh::node {

/// A node as its record tells of it.
struct SpanHolder {
  NodeId id{};
  Span span;
  std::uint32_t layer_us = 0;  // one row through one layer; 0: not measured
};

struct MeshCoverage {
  std::uint32_t num_layers = 0;
  std::vector<SpanHolder> others;  // that live, without this node
};

/// This node.
struct SpanSeeker {
  SpanHolder self;             // with an empty span while it serves nothing
  std::uint32_t capacity = 0;  // layers that it can hold
  /// What it costs to move, as a share of the time for which a move should pay: 0.05 is three
  /// minutes of loading an hour.
  double moving_cost = 0.0;
};

/// Where a node that serves nothing yet is wanted most: as many layers as it can hold. Empty when
/// that is none.
Span first_span(const MeshCoverage& mesh, const SpanSeeker& node);

enum class MoveReason : std::uint8_t {
  closes_hole,   // layers are covered that nobody serves
  towards_hole,  // lets a neighbour close the hole, and leave none
  balance,       // is worth more there, by more than moving costs
};
std::string_view name(MoveReason reason) noexcept;

struct SpanMove {
  Span span;
  MoveReason reason = MoveReason::balance;
  /// Others for whom a move is worth more, or as much and whose id is smaller: they go first. Who
  /// is still wanted after their turn may be sure that they cannot, or will not.
  std::uint32_t turn = 0;
};

/// Nothing when the node had better stay, such as when it alone serves one of its layers.
std::optional<SpanMove> worthwhile_move(const MeshCoverage& mesh, const SpanSeeker& node);

/// Whether others serve every layer that a node of `held` gives up when it takes `there` instead.
bool may_leave(const MeshCoverage& mesh, Span held, Span there);

/// Layers that nobody of `mesh` serves.
std::uint32_t uncovered_layers(const MeshCoverage& mesh);

}  // namespace farmesh::node
