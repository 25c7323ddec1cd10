// Many sessions over a swarm whose peers come and go at random.

#include <random>

#include <doctest/doctest.h>

#include "node/swarm.hpp"

using namespace farmesh;
using namespace farmesh::sim;
using namespace std::chrono_literals;

namespace {

struct Churn {
  std::uint64_t seed = 0;
  int sessions = 0;
  std::uint32_t tokens = 0;
  Duration between = 100ms;  // two events
  bool rough = false;        // peers stall as well, links are long, half of the runs keep spares
};

const std::vector<std::pair<std::string, Span>> kPeers{
    {"a", {0, 4}},  {"b", {4, 8}},  {"c", {8, 12}}, {"d", {0, 6}},  {"e", {3, 9}},
    {"f", {6, 12}}, {"g", {0, 12}}, {"h", {2, 7}},  {"i", {7, 12}}, {"j", {0, 3}}};

/// Would the swarm still cover every layer without `name`?
bool may_die(const Swarm& swarm, const std::string& name) {
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    bool held = false;
    for (const auto& [other, span] : kPeers) {
      held = held || (other != name && swarm.alive(other) && span.contains({layer, layer + 1}));
    }
    if (!held) return false;
  }
  return true;
}

/// Kills, revives and may stall peers at random while sessions talk; empty when all went well.
std::string run_churn(const Churn& churn) {
  std::mt19937_64 random(churn.seed);
  SwarmOptions options;
  options.seed = churn.seed;
  options.history_bytes = random() % 3 == 0 ? 4'000 : 1u << 20;
  if (churn.rough) {
    options.network.latency = Duration(1ms) * (1 + random() % 40);
    options.chain.warm_standby = random() % 2 == 0;
  }
  Swarm swarm(options);
  for (const auto& [name, span] : kPeers) swarm.add(name, span);
  swarm.connect();

  std::vector<Talk> talks(static_cast<std::size_t>(churn.sessions));
  for (std::uint32_t i = 0; i < talks.size(); ++i) {
    talks[i].prompt = prompt_of(i % 5, 5 + random() % 60);  // some share a prefix
    talks[i].max_tokens = churn.tokens;
    talks[i].sampling = i % 2 == 0 ? greedy() : warm(i);
    if (i % 3 == 0) {  // guesses, of which about every second is right
      talks[i].sampling.logit_bias = {{40, 100}, {41, 97}};
      talks[i].max_draft = 6;
    }
    const TimePoint when = swarm.clock.now() + Duration(1ms) * (random() % 500);
    swarm.clock.call_at(when, [&swarm, &talk = talks[i]] { swarm.start(talk); });
  }
  std::function<void()> event = [&] {
    const std::string& name = kPeers[random() % kPeers.size()].first;
    if (!swarm.alive(name)) {
      swarm.revive(name);
    } else if (churn.rough && random() % 2 == 0) {
      const std::uint64_t stall = random() % 2 == 0 ? 0 : random() % 5'000;
      swarm.slow_down(name, Duration(1ms) * stall);
    } else if (may_die(swarm, name)) {
      swarm.kill(name);
    }
    swarm.clock.call_at(swarm.clock.now() + churn.between, event);
  };
  swarm.clock.call_at(swarm.clock.now() + churn.between, event);
  const bool ended = swarm.run_until([&] {
    return std::all_of(talks.begin(), talks.end(), [](const Talk& t) { return t.finish; });
  });
  std::string what;
  if (!ended) what = "some talk hangs; ";
  for (const Talk& talk : talks) {
    if (what.empty()) what = Swarm::verdict(talk);
  }
  if (ended) what += swarm.leaks();
  return what.empty() ? what : "seed " + std::to_string(churn.seed) + ": " + what;
}

}  // namespace

TEST_SUITE("sim/churn") {
  TEST_CASE("random deaths and returns under many sessions: every token right, once, in order") {
    const std::uint64_t seed = seed_or(77);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    for (std::uint64_t i = 0; i < 6; ++i) {
      CHECK(run_churn({seed + i, 12, 60, 100ms}) == "");
    }
  }

  TEST_CASE("deaths so fast that repairs fail in the middle") {
    const std::uint64_t seed = seed_or(177);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    for (std::uint64_t i = 0; i < 6; ++i) {
      CHECK(run_churn({seed + i, 8, 30, 15ms}) == "");
    }
  }

  TEST_CASE("deaths and stalls over long links, with spares and without") {
    const std::uint64_t seed = seed_or(277);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    for (std::uint64_t i = 0; i < 6; ++i) {
      CHECK(run_churn({seed + i, 6, 40, 200ms, true}) == "");
    }
  }
}

TEST_SUITE("chaos") {
  TEST_CASE("long churn of peers that stall as well, over long links" * doctest::skip()) {
    const std::uint64_t seed = seed_or(5'000);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    for (std::uint64_t i = 0; i < 150; ++i) {
      CHECK(run_churn({seed + i, 8, 60, Duration(1ms) * (50 + 40 * (i % 20)), true}) == "");
    }
  }

  TEST_CASE("long churn under many sessions" * doctest::skip()) {
    const std::uint64_t seed = seed_or(1'000);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    for (std::uint64_t i = 0; i < 150; ++i) {
      CHECK(run_churn({seed + i, 16, 100, Duration(1ms) * (15 + 7 * (i % 20))}) == "");
    }
  }
}
