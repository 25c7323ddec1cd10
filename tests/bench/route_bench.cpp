// Plans routes over 10,000 peers and prints what that takes: the bound is 20 ms.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "route/planner.hpp"

using namespace farmesh;
using namespace farmesh::route;

namespace {

struct World {
  std::vector<PeerView> peers;
  std::vector<LinkView> links;
};

World make_world(std::uint32_t count, bool with_links, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto upto = [&random](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  World world;
  for (std::uint32_t i = 0; i < count; ++i) {
    PeerView peer;
    peer.address = std::to_string(20 + upto(200)) + "." + std::to_string(upto(250)) + "." +
                   std::to_string(upto(250)) + "." + std::to_string(upto(250)) + ":31330";
    const std::uint32_t begin = upto(76);
    peer.span = {begin, std::min(80u, begin + 4 + upto(20))};
    peer.round_trip = std::chrono::microseconds(500 + upto(200'000));
    peer.layer_time = std::chrono::microseconds(100 + upto(20'000));
    peer.layer_samples = upto(50);
    peer.layer_time_age = std::chrono::seconds(upto(600));
    peer.queued_rows = upto(8);
    peer.free_tokens = upto(100'000);
    peer.reputation = 0.5 + upto(50) / 100.0;
    peer.price = upto(100) / 10.0;
    peer.place = "place-" + std::to_string(upto(12));
    world.peers.push_back(std::move(peer));
    for (int link = 0; with_links && link < 2; ++link) {
      world.links.push_back({i, upto(count), std::chrono::microseconds(200 + upto(90'000))});
    }
  }
  return world;
}

double median_ms(const World& world, const Policy& policy, std::size_t& hops) {
  std::vector<double> times;
  for (int round = 0; round < 11; ++round) {
    const auto start = std::chrono::steady_clock::now();
    const auto route = plan(world.peers, {0, 80}, policy, world.links);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count());
    hops = route ? route->size() : 0;
  }
  std::nth_element(times.begin(), times.begin() + 5, times.end());
  return times[5];
}

}  // namespace

int main() {
  Policy policy;
  policy.session_tokens = 4'096;
  policy.time_per_price = std::chrono::microseconds(50);
  bool held = true;
  for (const std::uint32_t count : {100u, 1'000u, 10'000u}) {
    for (const bool with_links : {false, true}) {
      std::vector<double> medians;
      std::size_t hops = 0;
      for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        medians.push_back(median_ms(make_world(count, with_links, seed), policy, hops));
      }
      const double worst = *std::max_element(medians.begin(), medians.end());
      held = held && worst < 20;
      std::printf("%6u peers, 80 layers, %s: %7.2f ms the slowest of 5 swarms, %zu hops%s\n", count,
                  with_links ? "2 known links a peer" : "no links known      ", worst, hops,
                  worst < 20 ? "" : "  MISSED: 20 ms");
    }
  }
  return held ? 0 : 1;
}
