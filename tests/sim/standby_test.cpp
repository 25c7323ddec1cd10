// Sessions that keep a spare's cache warm behind every stage, and those for whom only another
// numerics class is left.

#include <doctest/doctest.h>

#include "node/swarm.hpp"

using namespace farmesh;
using namespace farmesh::sim;
using namespace std::chrono_literals;
using driver::ChainEvent;

namespace {

SwarmOptions premium() {
  SwarmOptions options;
  options.chain.warm_standby = true;
  return options;
}

/// Three stages and two spares for each.
void add_swarm(Swarm& swarm) {
  for (const char* names : {"abc", "stu"}) {
    for (std::uint32_t i = 0; i < 3; ++i) {
      swarm.add(std::string(1, names[i]), {4 * i, 4 * i + 4});
    }
  }
  swarm.connect();
}

}  // namespace

TEST_SUITE("sim/standby") {
  TEST_CASE("a warm spare takes over without a replay, whichever stage is lost and when") {
    for (const std::size_t stage : {0u, 1u, 2u}) {
      for (const std::size_t at : {20u, 30u, 59u}) {
        Swarm swarm(premium());
        add_swarm(swarm);
        Talk talk{prompt_of(20, 50), 60, greedy()};
        TimePoint killed{};
        Duration gap{};
        talk.on_token = [&](std::size_t told) {
          if (told == at + 1) gap = swarm.clock.now() - killed;
          if (told != at) return;
          swarm.kill(talk.generator->hops()[stage].address.substr(0, 1));
          killed = swarm.clock.now();
        };
        CHECK(swarm.hold(talk) == "");
        CHECK(swarm.count(ChainEvent::Kind::standby) >= 3);
        CHECK(swarm.count(ChainEvent::Kind::replaced) == 1);
        CHECK(swarm.count(ChainEvent::Kind::replayed) == 0);
        CHECK(gap < 60ms);  // the loss is told in 2 ms, and a token takes about 12
        CHECK(swarm.leaks() == "");
      }
    }
  }

  TEST_CASE("a session that got its spare late, or lost it, gets another; nothing is left open") {
    Swarm swarm(premium());
    swarm.add("a", {0, 6});
    swarm.add("b", {6, 12});
    swarm.connect();
    Talk talk{prompt_of(21, 90), 1'900, greedy()};
    talk.on_token = [&](std::size_t told) {
      if (told == 20) {
        swarm.add("s", {0, 12});
        swarm.connect_soon();
      }
      if (told == 700) swarm.kill("s");
      if (told == 720) {
        swarm.add("t", {0, 12});
        swarm.connect_soon();
      }
      if (told == 1'890) swarm.kill("b");
    };
    CHECK(swarm.hold(talk) == "");
    CHECK(swarm.count(ChainEvent::Kind::standby) >= 2);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("under churn, sessions with spares tell the same tokens") {
    Swarm swarm(premium());
    add_swarm(swarm);
    std::vector<Talk> talks(6);
    for (std::uint32_t i = 0; i < talks.size(); ++i) {
      talks[i] = {prompt_of(30 + i, 10 + 7 * i), 120, i % 2 == 0 ? greedy() : warm(i)};
    }
    const std::string names = "abcstu";
    talks[0].on_token = [&](std::size_t told) {
      if (told % 8 != 0) return;
      for (const char name : names) {
        if (!swarm.alive({name})) swarm.revive({name});
      }
      swarm.kill({names[(told * 5 / 8) % names.size()]});
    };
    for (Talk& talk : talks) swarm.start(talk);
    REQUIRE(swarm.run());
    for (const Talk& talk : talks) CHECK(Swarm::verdict(talk) == "");
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("when only another numerics class is left, the session goes on and is marked") {
    Swarm swarm;
    swarm.add("a", {0, 6});
    swarm.add("b", {6, 12});
    swarm.connect();
    swarm.add_of_class("x", {0, 12}, "f32/other");
    swarm.add("c", {6, 12});
    swarm.connect();
    Talk talk{prompt_of(3, 12), 60, greedy()};
    talk.on_token = [&](std::size_t told) {
      if (told == 20) swarm.kill("b");
      if (told == 40) swarm.kill("c");
    };
    swarm.start(talk);
    REQUIRE(swarm.run());
    REQUIRE(*talk.finish);
    CHECK(talk.told.size() == 60);
    CHECK(talk.generator->numerics_changes() == 1);
    CHECK(talk.generator->hops().back().address == "x:1");
    const Tokens expected = alone(talk.prompt, 40, greedy());
    CHECK(std::equal(expected.begin(), expected.end(), talk.told.begin()));  // "c" came first
    CHECK(swarm.leaks() == "");
  }
}
