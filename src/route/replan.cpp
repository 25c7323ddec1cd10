#include "route/replan.hpp"

#include <algorithm>
#include <cmath>

namespace farmesh::route {
namespace {

double seconds(Duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

bool pays(const Move& move, const ReplanPolicy& policy) noexcept {
  const double gain = seconds(move.present) - seconds(move.proposed);
  if (gain <= 0 || gain < policy.least_gain * seconds(move.present)) return false;
  return gain * move.tokens_left > policy.margin * seconds(move.cost);
}

Duration expected_move(std::span<const PeerView> peers, const Route& from, const Route& to,
                       std::uint32_t positions, const Policy& policy, const ReplanPolicy& replan) {
  double cost = 0;
  for (const wire::Hop& hop : to) {
    const bool kept = std::any_of(from.begin(), from.end(), [&](const wire::Hop& old) {
      return old.address == hop.address && old.span == hop.span;
    });
    if (kept) continue;
    const auto known = std::find_if(peers.begin(), peers.end(), [&](const PeerView& peer) {
      return peer.address == hop.address;
    });
    const PeerView peer = known == peers.end() ? PeerView{} : *known;
    // A round trip to open it, one to ask for the replay, one for the rows to come and go.
    cost += 3 * seconds(expected_round_trip(peer, policy));
    cost += seconds(expected_layer_time(peer, policy)) * hop.span.size() * positions /
            std::max(replan.rows_a_pass, 1.0);
  }
  return std::chrono::nanoseconds(std::llround(std::min(cost, 3'600.0) * 1e9));
}

}  // namespace farmesh::route
