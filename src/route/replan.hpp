// Whether a session under way had better move to another route: pure functions.
//
// A move costs: new hops are opened and their cache is rebuilt, while no token comes. It pays when
// the tokens that are left save clearly more than that; so two routes that are about equal do
// not take a session to and fro.
#pragma once

#include <cstdint>
#include <span>

#include "base/types.hpp"
#include "route/planner.hpp"

namespace farmesh::route {

struct ReplanPolicy {
  double margin = 2;         // what is saved must be so many times what the move costs
  double least_gain = 0.15;  // of the present time a token, else measurements' noise would do
  double rows_a_pass = 8;    // rows of a replay that take about as long as one of decoding
};

struct Move {
  Duration present{};             // expected time a token as it is
  Duration proposed{};            // and through the other route
  Duration cost{};                // of the move, as expected_move() gives it
  std::uint32_t tokens_left = 0;  // expected
};

bool pays(const Move& move, const ReplanPolicy& policy) noexcept;

/// What it takes to open the hops of `to` that are not in `from` and to rebuild their caches of
/// `positions` tokens.
Duration expected_move(std::span<const PeerView> peers, const Route& from, const Route& to,
                       std::uint32_t positions, const Policy& policy, const ReplanPolicy& replan);

}  // namespace farmesh::route
