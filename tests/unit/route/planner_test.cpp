#include "route/planner.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
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
  view.numerics_class = "f32/exact-2";
  view.round_trip = round_trip;
  view.layer_time = layer_time;
  view.layer_samples = 100;
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

struct World {
  std::vector<PeerView> peers;
  std::vector<LinkView> links;
  Policy policy;
  Span layers;

  std::int64_t way(std::size_t from, std::size_t to) const {
    const auto link = std::find_if(links.begin(), links.end(),
                                   [&](const LinkView& l) { return l.from == from && l.to == to; });
    const LinkView* known = link == links.end() ? nullptr : &*link;
    return expected_way(peers[from], peers[to], known, policy).count();
  }

  /// Of `p` running `span` after `before` (kDriver at first); without the way back.
  Price extend(const Price& price, std::size_t before, std::size_t index, Span span) const {
    const PeerView& p = peers[index];
    const auto [banned, ns, hops] = price;
    const std::int64_t round_trip = expected_round_trip(p, policy).count();
    const std::int64_t to = before == kDriver ? round_trip - round_trip / 2 : way(before, index);
    const std::int64_t layer = expected_layer_time(p, policy).count();
    const auto distrust = std::llround((1 - p.reputation) * double(policy.distrust.count()));
    const auto paid = std::llround(p.price * double(policy.time_per_price.count()));
    return {banned + (p.banned ? span.size() : 0),
            ns + to + policy.hop_overhead.count() + (p.relayed ? policy.relay_toll.count() : 0) +
                distrust + layer * p.queued_rows + (layer + paid) * span.size(),
            hops + 1};
  }
  std::int64_t way_back(std::size_t last) const {
    return expected_round_trip(peers[last], policy).count() / 2;
  }

  static constexpr std::size_t kDriver = ~std::size_t{0};
};

/// Tries every route without repeated peers.
struct Exhaustive {
  const World& world;
  std::vector<bool> used = std::vector<bool>(world.peers.size(), false);
  std::optional<Price> best{};

  void from(std::uint32_t layer, std::size_t before, const Price& price) {
    if (layer == world.layers.end) {
      auto whole = price;
      std::get<1>(whole) += world.way_back(before);
      if (!best || whole < *best) best = whole;
      return;
    }
    for (std::size_t i = 0; i < world.peers.size(); ++i) {
      if (!may_follow(i, before, layer)) continue;
      used[i] = true;
      const std::uint32_t most = std::min(world.peers[i].span.end, world.layers.end);
      for (std::uint32_t end = layer + 1; end <= most; ++end) {
        from(end, i, world.extend(price, before, i, {layer, end}));
      }
      used[i] = false;
    }
  }

  bool may_follow(std::size_t i, std::size_t before, std::uint32_t layer) const {
    const PeerView& p = world.peers[i];
    if (used[i] || p.span.begin > layer || p.span.end <= layer) return false;
    if (before != World::kDriver && world.peers[before].numerics_class != p.numerics_class)
      return false;
    const std::string& wanted = world.policy.numerics_class;
    if (!wanted.empty() && wanted != p.numerics_class) return false;
    if (world.policy.session_tokens > 0 && p.free_tokens < world.policy.session_tokens)
      return false;
    return p.reachable_by_peers || layer == world.layers.begin;
  }
};

/// The price of `route`, after checking that it is one.
Price checked_price(const Route& route, const World& world) {
  Price price{0, 0, 0};
  std::uint32_t layer = world.layers.begin;
  std::size_t before = World::kDriver;
  std::vector<std::string> seen;
  for (const wire::Hop& hop : route) {
    const auto p = std::find_if(world.peers.begin(), world.peers.end(),
                                [&](const PeerView& v) { return v.address == hop.address; });
    REQUIRE(p != world.peers.end());
    REQUIRE(hop.span.begin == layer);
    REQUIRE_FALSE(hop.span.empty());
    REQUIRE(p->span.contains(hop.span));
    REQUIRE((p->reachable_by_peers || layer == world.layers.begin));
    REQUIRE(std::find(seen.begin(), seen.end(), hop.address) == seen.end());
    seen.push_back(hop.address);
    const auto index = static_cast<std::size_t>(p - world.peers.begin());
    price = world.extend(price, before, index, hop.span);
    before = index;
    layer = hop.span.end;
  }
  REQUIRE(layer == world.layers.end);
  std::get<1>(price) += world.way_back(before);
  return price;
}

std::uint64_t seed_or(std::uint64_t fallback) {
  const char* text = std::getenv("FARMESH_SEED");
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

/// A few peers of all kinds.
World random_world(std::mt19937_64& random) {
  World world;
  const auto upto = [&random](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  world.layers = {upto(3), 4 + upto(6)};
  const std::size_t count = 1 + upto(6);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t begin = upto(world.layers.end);
    PeerView p = peer(std::string(1, static_cast<char>('a' + i)),
                      {begin, begin + 1 + upto(world.layers.end)}, Duration(1ms) * upto(8),
                      Duration(1ms) * upto(9));
    p.banned = upto(5) == 0;
    p.queued_rows = upto(3);
    p.reachable_by_peers = upto(5) != 0;
    p.reputation = upto(5) / 4.0;
    p.price = upto(3);
    p.relayed = upto(6) == 0;
    p.layer_samples = upto(12);
    p.layer_time_age = 1min * upto(9);
    p.round_trip_age = 1min * upto(9);
    if (upto(3) == 0) p.place = upto(2) == 0 ? "here" : "there";
    if (upto(6) == 0) p.numerics_class = "other";
    if (upto(4) == 0) p.free_tokens = upto(200);
    world.peers.push_back(std::move(p));
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    for (std::uint32_t j = 0; j < count; ++j) {
      if (i != j && upto(4) == 0) {
        world.links.push_back({i, j, Duration(1us) * (1 + upto(20'000)), 1min * upto(5)});
      }
    }
  }
  world.policy.unknown_round_trip = 4ms;
  world.policy.near_round_trip = 1ms;
  world.policy.place = upto(2) == 0 ? "here" : "";
  world.policy.time_per_price = Duration(1us) * upto(900);
  if (upto(2) == 0) world.policy.session_tokens = 100;
  if (upto(4) == 0) world.policy.numerics_class = "f32/exact-2";
  return world;
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
    peers[1].numerics_class = "bf16/exact-2";
    CHECK(text(plan(peers, {0, 4}, {})) == "a[0,4)");
    peers[2].numerics_class = "bf16/exact-2";
    CHECK(text(plan(peers, {0, 4}, {})) == "b[0,2) c[2,4)");
    Policy policy;
    policy.numerics_class = "f32/exact-2";
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

  TEST_CASE("old measurements decay to what is assumed of strangers") {
    Policy policy;
    PeerView p = peer("a", {0, 4}, 10ms, 3ms);
    CHECK(expected_round_trip(p, policy) == 10ms);
    CHECK(expected_layer_time(p, policy) == 3ms);
    p.round_trip_age = p.layer_time_age = policy.half_life;
    CHECK(expected_round_trip(p, policy) == 30ms);  // half way to 50
    CHECK(expected_layer_time(p, policy) == 2ms);   // and to 1
    p.round_trip_age = p.layer_time_age = 24h;
    CHECK(expected_round_trip(p, policy) == policy.unknown_round_trip);
    CHECK(expected_layer_time(p, policy) == policy.unknown_layer_time);
  }

  TEST_CASE("a newcomer's claim cannot win a route; measured steps can, as they add up") {
    Policy policy;
    std::vector<PeerView> peers{peer("known", {0, 4}, 10ms, 900us), peer("new", {0, 4}, 10ms, 0ms)};
    peers[1].claimed_layer_time = 1us;
    CHECK(text(plan(peers, {0, 4}, policy)) == "known[0,4)");
    peers[1].layer_time = 1us;
    peers[1].layer_samples = 0;
    CHECK(expected_layer_time(peers[1], policy) == policy.unknown_layer_time);
    peers[1].layer_samples = 4;  // of 8: half believed
    CHECK(text(plan(peers, {0, 4}, policy)) == "new[0,4)");
    peers[1].claimed_layer_time = 80ms;  // it says itself that it is slow
    peers[1].layer_time = 0ms;
    CHECK(expected_layer_time(peers[1], policy) == 80ms);
    peers[1].claimed_layer_time = 1us;
    peers[1].layer_time = 80ms;  // one slow step is enough
    peers[1].layer_samples = 1;
    CHECK(expected_layer_time(peers[1], policy) == 80ms);
  }

  TEST_CASE("peers without room for the session are out, as long as what they told is fresh") {
    std::vector<PeerView> peers{peer("near", {0, 4}, 1ms), peer("far", {0, 4}, 90ms)};
    Policy policy;
    policy.session_tokens = 500;
    peers[0].free_tokens = 499;
    CHECK(text(plan(peers, {0, 4}, policy)) == "far[0,4)");
    peers[0].load_age = 31s;
    CHECK(text(plan(peers, {0, 4}, policy)) == "near[0,4)");
    peers[0].load_age = 0s;
    peers[1].free_tokens = 10;
    CHECK(text(plan(peers, {0, 4}, policy)) ==
          "no_cache_space: no peer that holds layer 0 has room for 500 tokens");
    policy.session_tokens = 0;
    CHECK(text(plan(peers, {0, 4}, policy)) == "near[0,4)");
  }

  TEST_CASE("the way between two peers counts where it is known, else at most by the driver's") {
    // Both sides of an ocean: two second halves, one of them beside the first half.
    std::vector<PeerView> peers{peer("a", {0, 2}, 100ms), peer("b", {2, 4}, 90ms),
                                peer("c", {2, 4}, 100ms)};
    CHECK(text(plan(peers, {0, 4}, {})) == "a[0,2) b[2,4)");
    const std::vector<LinkView> near{{0, 2, 1ms}};
    CHECK(text(plan(peers, {0, 4}, {}, near)) == "a[0,2) c[2,4)");
    const std::vector<LinkView> bad{{0, 1, 400ms}};  // no estimate would tell
    CHECK(text(plan(peers, {0, 4}, {}, bad)) == "a[0,2) c[2,4)");
    CHECK(text(plan(peers, {0, 4}, {}, std::vector<LinkView>{{7, 1, 1ms}, {1, 1, 1ms}})) ==
          "a[0,2) b[2,4)");
    peers[0].place = peers[2].place = "eu";
    CHECK(text(plan(peers, {0, 4}, {})) == "a[0,2) c[2,4)");
  }

  TEST_CASE("price and reputation weigh as time") {
    std::vector<PeerView> peers{peer("a", {0, 4}), peer("b", {0, 4})};
    peers[0].reputation = 0.5;
    CHECK(text(plan(peers, {0, 4}, {})) == "b[0,4)");
    peers[1].price = 3;
    CHECK(text(plan(peers, {0, 4}, {})) == "b[0,4)");  // nobody said that price matters
    Policy policy;
    policy.time_per_price = 1ms;
    CHECK(text(plan(peers, {0, 4}, policy)) == "a[0,4)");
    peers[0].reputation = std::nan("");
    peers[1].price = -std::numeric_limits<double>::infinity();
    CHECK(plan(peers, {0, 4}, policy).has_value());
  }

  TEST_CASE("a relayed peer without measurements counts as farther away") {
    std::vector<PeerView> peers{peer("relayed", {0, 4}, 0ms), peer("direct", {0, 4}, 0ms)};
    peers[0].relayed = true;
    CHECK(text(plan(peers, {0, 4}, {})) == "direct[0,4)");
  }

  TEST_CASE("of two peers as far away the direct one is taken, and a relayed one that is nearer") {
    std::vector<PeerView> peers{peer("relayed", {0, 4}, 10ms), peer("direct", {0, 4}, 10ms)};
    peers[0].relayed = true;
    CHECK(text(plan(peers, {0, 4}, {})) == "direct[0,4)");
    peers[1].round_trip = 20ms;
    CHECK(text(plan(peers, {0, 4}, {})) == "relayed[0,4)");
  }

  TEST_CASE("on small random graphs the plan costs exactly what exhaustive search finds") {
    const std::uint64_t seed = seed_or(20'261'123);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    std::mt19937_64 random(seed);
    int routes = 0;
    int long_routes = 0;
    for (int round = 0; round < 2'000; ++round) {
      const World world = random_world(random);
      Exhaustive all{world};
      all.from(world.layers.begin, World::kDriver, {0, 0, 0});
      const auto route = plan(world.peers, world.layers, world.policy, world.links);
      REQUIRE(route.has_value() == all.best.has_value());
      if (!route) {
        const Errc code = route.error().code;
        REQUIRE((code == Errc::no_route || code == Errc::no_cache_space));
        continue;
      }
      const Price price = checked_price(*route, world);
      REQUIRE(price == *all.best);
      const Duration expected = expected_time(world.peers, *route, world.policy, world.links);
      REQUIRE(expected.count() == std::get<1>(price));
      REQUIRE(text(plan(world.peers, world.layers, world.policy, world.links)) == text(route));
      ++routes;
      long_routes += route->size() > 2 ? 1 : 0;
    }
    CHECK(routes > 400);
    CHECK(long_routes > 40);
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
