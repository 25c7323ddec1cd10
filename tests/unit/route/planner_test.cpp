#include "route/planner.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <tuple>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::route;
using namespace std::chrono_literals;

namespace {

PeerView peer(std::string address, Span span, Duration round_trip = 10ms,
              Duration layer_time = 1ms) {
  PeerView view;
  view.address = std::move(address);
  view.span = span;
  view.numerics_class = "f32/exact-1";
  view.round_trip = round_trip;
  view.layer_time = layer_time;
  return view;
}

std::string text(const Result<Route>& route) {
  if (!route) return route.error().to_string();
  std::string out;
  for (const wire::Hop& hop : *route) {
    out += (out.empty() ? "" : " ") + hop.address + "[" + std::to_string(hop.span.begin) + "," +
           std::to_string(hop.span.end) + ")";
  }
  return out;
}

/// Layers run by banned peers, nanoseconds, hops: by the definition in planner.hpp.
using Price = std::tuple<std::uint32_t, std::int64_t, std::uint32_t>;

std::int64_t time_of(Duration measured, Duration unknown) {
  return std::chrono::nanoseconds(measured > Duration::zero() ? measured : unknown).count();
}

Price extend(const Price& price, const PeerView& p, Span span, const Policy& policy) {
  const std::int64_t layer = time_of(p.layer_time, policy.unknown_layer_time);
  const std::int64_t way = p.reachable_by_peers ? time_of(p.round_trip, policy.unknown_round_trip)
                                                : std::chrono::nanoseconds(p.round_trip).count();
  const auto [banned, ns, hops] = price;
  return {banned + (p.banned ? span.size() : 0),
          ns + way + std::chrono::nanoseconds(policy.hop_overhead).count() +
              layer * (p.queued_rows + span.size()),
          hops + 1};
}

/// Tries every route without repeated peers.
void cheapest(const std::vector<PeerView>& peers, std::uint32_t layer, Span layers,
              const Policy& policy, std::vector<bool>& used, const Price& price,
              const std::string* numerics_class, std::optional<Price>& best) {
  if (layer == layers.end) {
    if (!best || price < *best) best = price;
    return;
  }
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const PeerView& p = peers[i];
    if (used[i] || p.span.begin > layer || p.span.end <= layer) continue;
    if (numerics_class != nullptr && *numerics_class != p.numerics_class) continue;
    if (!policy.numerics_class.empty() && policy.numerics_class != p.numerics_class) continue;
    if (!p.reachable_by_peers && layer != layers.begin) continue;
    used[i] = true;
    for (std::uint32_t end = layer + 1; end <= std::min(p.span.end, layers.end); ++end) {
      cheapest(peers, end, layers, policy, used, extend(price, p, {layer, end}, policy),
               &p.numerics_class, best);
    }
    used[i] = false;
  }
}

/// The price of `route`, after checking that it is one.
Price checked_price(const Route& route, const std::vector<PeerView>& peers, Span layers,
                    const Policy& policy) {
  Price price{0, 0, 0};
  std::uint32_t layer = layers.begin;
  std::vector<std::string> seen;
  for (const wire::Hop& hop : route) {
    const auto p = std::find_if(peers.begin(), peers.end(),
                                [&](const PeerView& v) { return v.address == hop.address; });
    REQUIRE(p != peers.end());
    REQUIRE(hop.span.begin == layer);
    REQUIRE_FALSE(hop.span.empty());
    REQUIRE(p->span.contains(hop.span));
    REQUIRE((p->reachable_by_peers || layer == layers.begin));
    REQUIRE(std::find(seen.begin(), seen.end(), hop.address) == seen.end());
    seen.push_back(hop.address);
    price = extend(price, *p, hop.span, policy);
    layer = hop.span.end;
  }
  REQUIRE(layer == layers.end);
  return price;
}

}  // namespace

TEST_SUITE("route/planner") {
  TEST_CASE("layers are covered once, in order, by peers that hold them") {
    const std::vector<PeerView> peers{peer("c", {22, 32}), peer("a", {0, 11}), peer("b", {11, 22})};
    CHECK(text(plan(peers, {0, 32}, {})) == "a[0,11) b[11,22) c[22,32)");
  }

  TEST_CASE("one peer with everything beats three with parts") {
    const std::vector<PeerView> peers{peer("a", {0, 2}), peer("b", {2, 4}), peer("all", {0, 4})};
    CHECK(text(plan(peers, {0, 4}, {})) == "all[0,4)");
  }

  TEST_CASE("overlapping peers are joined inside their spans, the faster one running more") {
    const std::vector<PeerView> peers{peer("slow", {0, 6}, 10ms, 5ms),
                                      peer("fast", {3, 10}, 10ms, 1ms)};
    CHECK(text(plan(peers, {0, 10}, {})) == "slow[0,3) fast[3,10)");
  }

  TEST_CASE("a span may be left early for a faster peer when the hop pays") {
    std::vector<PeerView> peers{peer("slow", {0, 10}, 1ms, 50ms), peer("fast", {5, 10}, 1ms, 1ms)};
    CHECK(text(plan(peers, {0, 10}, {})) == "slow[0,5) fast[5,10)");
    peers[1].round_trip = 1s;
    CHECK(text(plan(peers, {0, 10}, {})) == "slow[0,10)");
  }

  TEST_CASE("a peer is not visited twice, even where that would be fastest") {
    const std::vector<PeerView> peers{peer("slow", {0, 9}, 1ms, 100ms),
                                      peer("fast", {3, 6}, 1ms, 1ms)};
    CHECK(text(plan(peers, {0, 9}, {})) == "slow[0,9)");
  }

  TEST_CASE("peers with a queue are avoided") {
    std::vector<PeerView> peers{peer("a", {0, 4}), peer("b", {0, 4})};
    CHECK(text(plan(peers, {0, 4}, {})) == "a[0,4)");
    peers[0].queued_rows = 100;
    CHECK(text(plan(peers, {0, 4}, {})) == "b[0,4)");
  }

  TEST_CASE("equal peers: fewer hops first, then the earlier one of the view") {
    Policy policy;
    policy.hop_overhead = Duration::zero();
    std::vector<PeerView> peers{peer("a", {0, 2}), peer("b", {2, 4}), peer("c", {0, 4}),
                                peer("d", {0, 4})};
    for (PeerView& p : peers) p.reachable_by_peers = true;
    peers[0].round_trip = peers[1].round_trip = 5ms;  // together exactly what c and d cost
    CHECK(text(plan(peers, {0, 4}, policy)) == "c[0,4)");
    std::swap(peers[2], peers[3]);
    CHECK(text(plan(peers, {0, 4}, policy)) == "d[0,4)");
  }

  TEST_CASE("banned peers serve only where nobody else does") {
    std::vector<PeerView> peers{peer("banned", {0, 6}, 1ms, 1ms), peer("far", {0, 4}, 900ms, 90ms)};
    peers[0].banned = true;
    CHECK(text(plan(peers, {0, 6}, {})) == "far[0,4) banned[4,6)");
    CHECK(text(plan(peers, {0, 4}, {})) == "far[0,4)");
  }

  TEST_CASE("a stage in this process can only come first") {
    std::vector<PeerView> peers{peer("local", {2, 6}, 0ms, 1ms), peer("far", {0, 6}, 500ms, 50ms)};
    peers[0].reachable_by_peers = false;
    CHECK(text(plan(peers, {0, 6}, {})) == "far[0,6)");
    peers[0].span = {0, 3};
    CHECK(text(plan(peers, {0, 6}, {})) == "local[0,3) far[3,6)");
  }

  TEST_CASE("one numerics class serves the whole route, the asked one or the cheapest") {
    std::vector<PeerView> peers{peer("a", {0, 4}, 90ms), peer("b", {0, 2}), peer("c", {2, 4})};
    peers[1].numerics_class = "bf16/exact-1";
    CHECK(text(plan(peers, {0, 4}, {})) == "a[0,4)");
    peers[2].numerics_class = "bf16/exact-1";
    CHECK(text(plan(peers, {0, 4}, {})) == "b[0,2) c[2,4)");
    Policy policy;
    policy.numerics_class = "f32/exact-1";
    CHECK(text(plan(peers, {0, 4}, policy)) == "a[0,4)");
  }

  TEST_CASE("a missing layer is named") {
    std::vector<PeerView> peers{peer("a", {0, 3}), peer("b", {4, 6})};
    const auto route = plan(peers, {0, 6}, {});
    REQUIRE_FALSE(route);
    CHECK(route.error().code == Errc::no_route);
    CHECK(route.error().detail == "no peer holds layer 3");
    CHECK(text(plan({}, {2, 4}, {})) == "no_route: no peer holds layer 2");
    Policy policy;
    policy.numerics_class = "int8";
    CHECK(text(plan(peers, {0, 3}, policy)) ==
          "no_route: no peer holds layer 0 in numerics class int8");
    peers[1] = peer("b", {3, 6});
    peers[1].numerics_class = "int8";
    CHECK(text(plan(peers, {0, 6}, {})) == "no_route: no single numerics class covers all layers");
  }

  TEST_CASE("no layers need no peers") { CHECK(text(plan({}, {4, 4}, {})).empty()); }

  TEST_CASE("absurd measurements do not overflow") {
    std::vector<PeerView> peers{peer("a", {0, 1'000}, Duration::max(), Duration::max()),
                                peer("b", {0, 1'000}, Duration::min(), Duration::min())};
    peers[0].queued_rows = peers[1].queued_rows = ~0u;
    CHECK(text(plan(peers, {0, 1'000}, {})) == "b[0,1000)");
  }

  TEST_CASE("on small random graphs the plan costs exactly what exhaustive search finds") {
    std::mt19937 random(20'240'601);
    int routes = 0;
    int long_routes = 0;
    for (int round = 0; round < 3'000; ++round) {
      const std::uint32_t layer_count = 1 + random() % 6;
      const Span layers{static_cast<std::uint32_t>(random() % 3), 3 + layer_count};
      std::vector<PeerView> peers;
      const std::size_t count = 1 + random() % 6;
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t begin = random() % layers.end;
        const Span span{begin, begin + 1 + static_cast<std::uint32_t>(random() % layers.end)};
        peers.push_back(peer(std::string(1, static_cast<char>('a' + i)), span,
                             Duration(1ms) * (random() % 4), Duration(1ms) * (random() % 9)));
        peers.back().banned = random() % 5 == 0;
        peers.back().queued_rows = random() % 3;
        peers.back().reachable_by_peers = random() % 5 != 0;
        if (random() % 6 == 0) peers.back().numerics_class = "other";
      }
      Policy policy;
      policy.unknown_round_trip = 2ms;
      if (random() % 4 == 0) policy.numerics_class = "f32/exact-1";
      std::vector<bool> used(count, false);
      std::optional<Price> best;
      cheapest(peers, layers.begin, layers, policy, used, {0, 0, 0}, nullptr, best);
      const auto route = plan(peers, layers, policy);
      REQUIRE(route.has_value() == best.has_value());
      if (!route) {
        REQUIRE(route.error().code == Errc::no_route);
        continue;
      }
      REQUIRE(checked_price(*route, peers, layers, policy) == *best);
      ++routes;
      long_routes += route->size() > 2 ? 1 : 0;
    }
    CHECK(routes > 500);
    CHECK(long_routes > 50);
  }

  TEST_CASE("a thousand peers are planned in milliseconds") {
    std::mt19937 random(5);
    std::vector<PeerView> peers;
    for (int i = 0; i < 1'000; ++i) {
      const std::uint32_t begin = random() % 70;
      const Span span{begin, begin + 4 + static_cast<std::uint32_t>(random() % 20)};
      peers.push_back(peer("peer-" + std::to_string(i), span, Duration(1us) * (random() % 99'999),
                           Duration(1us) * (random() % 9'999)));
    }
    const auto start = std::chrono::steady_clock::now();
    const auto route = plan(peers, {0, 80}, {});
    const auto took = std::chrono::steady_clock::now() - start;
    REQUIRE(route);
    MESSAGE("1,000 peers, 80 layers: "
            << std::chrono::duration_cast<std::chrono::microseconds>(took).count() << " us, "
            << route->size() << " hops");
    CHECK(took < 500ms);  // generous, for sanitizers on a busy machine
  }
}
