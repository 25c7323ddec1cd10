// Peers that are late: slow, silent or cut off, and how soon the right one is blamed.

#include <doctest/doctest.h>

#include "node/swarm.hpp"

using namespace farmesh;
using namespace farmesh::sim;
using namespace std::chrono_literals;

namespace {

void add_swarm(Swarm& swarm) {
  swarm.add("a", {0, 4});
  swarm.add("b", {4, 8});
  swarm.add("c", {8, 12});
  swarm.connect();
  swarm.add("s", {0, 12});
}

/// The longest time between two tokens of `talk`, which begins after `act` at token 30.
Duration longest_gap(Swarm& swarm, Talk& talk, const std::function<void()>& act) {
  TimePoint last = swarm.clock.now();
  Duration longest{};
  talk.on_token = [&](std::size_t told) {
    if (told > 1) longest = std::max(longest, swarm.clock.now() - last);
    last = swarm.clock.now();
    if (told == 30) act();
  };
  CHECK(swarm.hold(talk) == "");
  return longest;
}

}  // namespace

TEST_SUITE("sim/slow") {
  TEST_CASE("a silent cut between any two is found and mended within two seconds") {
    for (const auto& [one, two] :
         {std::pair{"driver", "a"}, {"driver", "b"}, {"driver", "c"}, {"a", "b"}, {"b", "c"}}) {
      Swarm swarm;
      add_swarm(swarm);
      Talk talk{prompt_of(13, 30), 60, greedy()};
      const Duration gap = longest_gap(
          swarm, talk, [&, one = one, two = two] { swarm.network.partition(one, two, true); });
      INFO(one << " and " << two);
      CHECK(gap < 2s);
      swarm.network.partition(one, two, false);
      swarm.pass(60s);
      CHECK(swarm.leaks() == "");
    }
  }

  TEST_CASE("a cut is found as soon when the peer behind it is busy with other sessions") {
    Swarm swarm;
    add_swarm(swarm);
    std::vector<Talk> others(6);
    for (std::uint32_t i = 0; i < others.size(); ++i) {
      others[i] = {prompt_of(50 + i, 20), 300, greedy()};
      swarm.start(others[i]);
    }
    Talk talk{prompt_of(14, 30), 60, greedy()};
    const Duration gap = longest_gap(swarm, talk, [&] { swarm.network.partition("a", "b", true); });
    CHECK(gap < 4s);
    REQUIRE(swarm.run());
    for (const Talk& other : others) CHECK(Swarm::verdict(other) == "");
  }

  TEST_CASE("a peer that becomes slow is overtaken by a spare after its measured patience") {
    for (const std::string slow : {"a", "b", "c"}) {
      Swarm swarm;
      add_swarm(swarm);
      Talk talk{prompt_of(15, 40), 60, greedy()};
      const Duration gap = longest_gap(swarm, talk, [&] { swarm.slow_down(slow, 60s); });
      CHECK(gap < 5s);
      CHECK(talk.generator->recoveries() == 1);
      swarm.slow_down(slow, 0s);
      swarm.pass(120s);
      CHECK(swarm.leaks() == "");
    }
  }

  TEST_CASE("a peer that is slow for a moment keeps its session, and the spare is let go") {
    Swarm swarm;
    add_swarm(swarm);
    Talk talk{prompt_of(16, 40), 60, greedy()};
    talk.on_token = [&](std::size_t told) {
      if (told == 30) swarm.slow_down("b", 1'800ms);
      if (told == 31) swarm.slow_down("b", 0s);
    };
    CHECK(swarm.hold(talk) == "");
    CHECK(talk.generator->recoveries() == 0);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("the peer before a slow one may be lost at any moment while the spare is filled") {
    SwarmOptions options;
    options.network = {20ms, 0ms, 0};
    for (Duration after = 2'000ms; after < 3'000ms; after += 5ms) {
      Swarm swarm(options);
      for (const char* name : {"a", "x"}) swarm.add(name, {0, 4});
      for (const char* name : {"b", "t"}) swarm.add(name, {4, 8});
      swarm.add("c", {8, 12});
      swarm.connect();
      Talk talk{prompt_of(22, 10), 45, greedy()};
      const auto hop = [&](std::size_t index) {
        return talk.generator->hops()[index].address.substr(0, 1);
      };
      talk.on_token = [&](std::size_t told) {
        if (told != 1) return;
        const std::string other = hop(0) == "a" ? "x" : "a";
        swarm.kill(other);  // known, but to be dialled again
        swarm.revive(other);
      };
      swarm.start(talk);
      REQUIRE(swarm.run_until([&] { return talk.told.size() == 40; }));
      const std::string first = hop(0);
      swarm.slow_down(hop(1), 60s);
      swarm.pass(after);
      swarm.kill(first);
      REQUIRE(swarm.run());
      INFO("killed after " << after / 1ms << " ms");
      CHECK(Swarm::verdict(talk) == "");
      CHECK(swarm.leaks() == "");
    }
  }

  TEST_CASE("a slow peer without a spare is waited for") {
    Swarm swarm;
    swarm.add("a", {0, 6});
    swarm.add("b", {6, 12});
    swarm.connect();
    Talk talk{prompt_of(17, 40), 40, greedy()};
    talk.on_token = [&](std::size_t told) {
      if (told == 20) swarm.slow_down("b", 15s);
      if (told == 21) swarm.slow_down("b", 0s);
    };
    CHECK(swarm.hold(talk) == "");
    CHECK(talk.generator->recoveries() == 0);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("a prompt that takes longer than anything before is not handed to and fro") {
    Swarm swarm;
    add_swarm(swarm);
    swarm.connect();
    for (const std::string name : {"a", "b", "c", "s"}) swarm.slow_down(name, 45s);
    Talk talk{prompt_of(19, 30), 3, greedy()};
    CHECK(swarm.hold(talk) == "");
    CHECK(talk.generator->recoveries() == 0);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("a session moves to a faster route when what is left pays for the replay") {
    SwarmOptions options;
    options.compute_base = 20ms;
    options.chain.replan_interval = std::chrono::seconds(2);
    Swarm swarm(options);
    swarm.add("a", {0, 6});
    swarm.add("b", {6, 12});
    swarm.connect();
    Talk talk{prompt_of(18, 20), 900, greedy()};
    talk.on_token = [&](std::size_t told) {
      if (told == 40) swarm.slow_down("b", 300ms);
      if (told == 60) {
        swarm.add("c", {6, 12});
        swarm.connect_soon();
        // Known from another session's steps.
        for (int i = 0; i < 20; ++i) swarm.peers->report_success("c:1", {6, 12}, 20ms, 1);
      }
    };
    CHECK(swarm.hold(talk) == "");
    CHECK(talk.generator->recoveries() == 0);
    CHECK(swarm.count(driver::ChainEvent::Kind::moved) == 1);
    CHECK(talk.generator->hops().back().address == "c:1");
    CHECK(swarm.leaks() == "");
  }
}
