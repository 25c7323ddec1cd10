// Chooses the chain of peers for a session: a pure function of what is known about them.
//
// Takes a view from driver/ (later from discovery/), gives it a route: spans that cover every
// layer once, in order, at the least expected time a token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"
#include "wire/messages.hpp"

namespace farmesh::route {

struct PeerView {
  std::string address;
  Span span;  // layers it holds
  std::string numerics_class;
  bool reachable_by_peers = true;  // false: an in-process stage; it can only come first
  Duration round_trip{};           // driver to peer; zero: not measured
  Duration layer_time{};           // one row through one layer; zero: not measured
  std::uint32_t queued_rows = 0;
  bool banned = false;  // failed lately; used only if no other covers a layer
};

struct Policy {
  std::string numerics_class;  // empty: any, but one for the whole route
  Duration unknown_round_trip = std::chrono::milliseconds(50);
  Duration unknown_layer_time = std::chrono::milliseconds(1);
  Duration hop_overhead = std::chrono::microseconds(100);
};

using Route = std::vector<wire::Hop>;

/// Fails with no_route, naming the first layer that nobody covers. Deterministic: equal views
/// give equal routes; ties go to fewer hops, then to the earlier peer of the view.
Result<Route> plan(std::span<const PeerView> peers, Span layers, const Policy& policy);

}  // namespace farmesh::route
