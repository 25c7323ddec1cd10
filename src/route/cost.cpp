#include "route/cost.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace farmesh::route {
namespace {

constexpr std::int64_t kHour = 3'600'000'000'000;  // a lie must not overflow a sum

/// How much a measurement of this age still counts.
double freshness(Duration age, const Policy& policy) {
  if (age <= Duration::zero()) return 1;
  if (policy.half_life <= Duration::zero()) return 0;
  return std::exp2(-static_cast<double>(age.count()) /
                   static_cast<double>(policy.half_life.count()));
}

Duration blend(Duration unknown, Duration measured, double weight) {
  const double prior = static_cast<double>(bounded_ns(unknown));
  const double mean = static_cast<double>(bounded_ns(measured));
  return std::chrono::nanoseconds(std::llround(prior + (mean - prior) * weight));
}

bool same_place(const PeerView& a, const PeerView& b) {
  return !a.place.empty() && a.place == b.place;
}

double bounded(double value, double least, double most, double otherwise) {
  return std::isfinite(value) ? std::clamp(value, least, most) : otherwise;
}

std::int64_t half_in(std::int64_t round_trip) { return round_trip - round_trip / 2; }
std::int64_t half_out(std::int64_t round_trip) { return round_trip / 2; }

/// What a hop costs besides the ways to and from it.
std::int64_t entry_ns(const PeerView& peer, const Policy& policy) {
  const std::int64_t layer = bounded_ns(expected_layer_time(peer, policy));
  // Rows that wait there share passes with ours: each delays us by about one layer.
  const bool known = peer.load_age <= policy.load_lifetime;
  const std::int64_t queue = known ? layer * std::min(peer.queued_rows, 65'536u) : 0;
  const double doubt = 1 - bounded(peer.reputation, 0, 1, 0);
  const auto distrust = std::llround(doubt * static_cast<double>(bounded_ns(policy.distrust)));
  const std::int64_t toll = peer.relayed ? bounded_ns(policy.relay_toll) : 0;
  return bounded_ns(policy.hop_overhead) + toll + queue + distrust;
}

std::int64_t layer_ns(const PeerView& peer, const Policy& policy) {
  const double price = bounded(peer.price, 0, 1e9, 1e9);
  const double paid = price * static_cast<double>(bounded_ns(policy.time_per_price));
  return bounded_ns(expected_layer_time(peer, policy)) +
         std::llround(std::min(paid, static_cast<double>(kHour)));
}

std::int64_t round_trip_ns(const PeerView& peer, const Policy& policy) {
  return bounded_ns(expected_round_trip(peer, policy));
}

}  // namespace

std::int64_t bounded_ns(Duration time) noexcept {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  return std::clamp<std::int64_t>(ns, 0, kHour);
}

Duration expected_round_trip(const PeerView& peer, const Policy& policy) {
  if (!peer.reachable_by_peers) return std::max(peer.round_trip, Duration::zero());
  const bool near = !peer.place.empty() && peer.place == policy.place;
  Duration unknown = near ? policy.near_round_trip : policy.unknown_round_trip;
  if (peer.relayed) unknown += policy.relay_detour;
  if (peer.round_trip <= Duration::zero()) return unknown;
  return blend(unknown, peer.round_trip, freshness(peer.round_trip_age, policy));
}

Duration expected_layer_time(const PeerView& peer, const Policy& policy) {
  const Duration unknown = std::max(policy.unknown_layer_time, peer.claimed_layer_time);
  if (peer.layer_time <= Duration::zero()) return unknown;
  double weight = freshness(peer.layer_time_age, policy);
  // A few quick steps are cheap to fake; slow ones are believed at once.
  if (peer.layer_time < unknown && peer.layer_samples < policy.trusted_samples) {
    weight *= static_cast<double>(peer.layer_samples) / policy.trusted_samples;
  }
  return blend(unknown, peer.layer_time, weight);
}

Duration expected_way(const PeerView& from, const PeerView& to, const LinkView* link,
                      const Policy& policy) {
  // Not more than by way of the driver, as a sum of halves; less within one place.
  std::int64_t way = half_out(round_trip_ns(from, policy)) + half_in(round_trip_ns(to, policy));
  if (same_place(from, to)) way = std::min(way, bounded_ns(policy.near_round_trip) / 2);
  const Duration estimate = std::chrono::nanoseconds(way);
  if (link == nullptr || link->way <= Duration::zero()) return estimate;
  return blend(estimate, link->way, freshness(link->age, policy));
}

Duration expected_time(std::span<const PeerView> peers, const Route& route, const Policy& policy,
                       std::span<const LinkView> links) {
  std::int64_t ns = 0;
  const PeerView* before = nullptr;
  PeerView stranger;
  for (const wire::Hop& hop : route) {
    const auto known = std::find_if(peers.begin(), peers.end(), [&](const PeerView& peer) {
      return peer.address == hop.address;
    });
    const PeerView* peer = known == peers.end() ? &stranger : &*known;
    if (before == nullptr) {
      ns += half_in(round_trip_ns(*peer, policy));
    } else {
      const auto link = std::find_if(links.begin(), links.end(), [&](const LinkView& l) {
        return l.from < peers.size() && l.to < peers.size() && &peers[l.from] == before &&
               &peers[l.to] == peer;
      });
      ns +=
          bounded_ns(expected_way(*before, *peer, link == links.end() ? nullptr : &*link, policy));
    }
    ns += entry_ns(*peer, policy) + layer_ns(*peer, policy) * hop.span.size();
    before = peer;
  }
  if (before != nullptr) ns += half_out(round_trip_ns(*before, policy));
  return std::chrono::nanoseconds(ns);
}

bool lacks_room(const PeerView& peer, const Policy& policy) noexcept {
  return policy.session_tokens > 0 && peer.load_age <= policy.load_lifetime &&
         peer.free_tokens < policy.session_tokens;
}

Graph make_graph(std::span<const PeerView> peers, Span layers, const std::string& numerics_class,
                 const Policy& policy, std::span<const LinkView> links) {
  Graph graph;
  graph.layers = layers;
  graph.near_way = bounded_ns(policy.near_round_trip) / 2;
  std::unordered_map<std::string, std::uint32_t> places;
  std::vector<std::uint32_t> candidate_of(peers.size(), ~0u);
  for (std::uint32_t i = 0; i < peers.size(); ++i) {
    const PeerView& peer = peers[i];
    const Span span{std::max(peer.span.begin, layers.begin), std::min(peer.span.end, layers.end)};
    if (peer.numerics_class != numerics_class || span.begin >= span.end || lacks_room(peer, policy))
      continue;
    Candidate candidate;
    candidate.index = i;
    candidate.span = span;
    candidate.first_only = !peer.reachable_by_peers;
    if (!peer.place.empty()) {
      candidate.place =
          places.emplace(peer.place, static_cast<std::uint32_t>(places.size() + 1)).first->second;
    }
    const std::int64_t round_trip = round_trip_ns(peer, policy);
    candidate.way_in = half_in(round_trip);
    candidate.way_out = half_out(round_trip);
    candidate.entry = {0, entry_ns(peer, policy), 1};
    candidate.layer = {peer.banned ? 1u : 0u, layer_ns(peer, policy), 0};
    candidate_of[i] = static_cast<std::uint32_t>(graph.candidates.size());
    graph.offsets.push_back(graph.closed.size());
    graph.closed.resize(graph.closed.size() + span.size(), 0);
    graph.candidates.push_back(candidate);
  }
  for (const LinkView& link : links) {
    if (link.from >= peers.size() || link.to >= peers.size() || link.from == link.to) continue;
    const std::uint32_t from = candidate_of[link.from];
    const std::uint32_t to = candidate_of[link.to];
    if (from == ~0u || to == ~0u) continue;
    // Whoever runs a layer of `from` can only be followed by one that runs the next.
    const Span before = graph.candidates[from].span;
    const Span after = graph.candidates[to].span;
    if (after.begin > before.end || after.end <= before.begin + 1) continue;
    if (graph.ways.empty()) graph.ways.resize(graph.candidates.size());
    const Duration way = expected_way(peers[link.from], peers[link.to], &link, policy);
    graph.ways[from].push_back({to, bounded_ns(way)});
  }
  for (auto& ways : graph.ways) {
    // Of two measurements of one way the first counts, as in expected_time().
    const auto by_target = [](const Way& a, const Way& b) { return a.to < b.to; };
    std::stable_sort(ways.begin(), ways.end(), by_target);
    const auto same = [](const Way& a, const Way& b) { return a.to == b.to; };
    ways.erase(std::unique(ways.begin(), ways.end(), same), ways.end());
  }
  return graph;
}

}  // namespace farmesh::route
