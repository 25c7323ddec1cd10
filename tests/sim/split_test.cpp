// One model, split in any way, tells what it tells whole.

#include <doctest/doctest.h>

#include "node/swarm.hpp"

using namespace farmesh;
using namespace farmesh::sim;
using namespace std::chrono_literals;

namespace {

void add_split(Swarm& swarm, const std::vector<std::uint32_t>& bounds) {
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    swarm.add("p" + std::to_string(i), {bounds[i], bounds[i + 1]});
  }
  swarm.connect();
}

const std::vector<std::vector<std::uint32_t>> kSplits{
    {0, 12}, {0, 5, 12}, {0, 4, 8, 12}, {0, 2, 5, 7, 10, 12}};

}  // namespace

TEST_SUITE("sim/split") {
  TEST_CASE("1, 2, 3 and 5 peers tell the ids of one engine alone") {
    for (const auto& bounds : kSplits) {
      for (const SamplingOptions& sampling : {greedy(), warm(5)}) {
        Swarm swarm;
        add_split(swarm, bounds);
        Talk talk{prompt_of(1, 37), 60, sampling};
        CHECK(swarm.hold(talk) == "");
        CHECK(talk.generator->hops().size() == bounds.size() - 1);
        CHECK(swarm.leaks() == "");
      }
    }
  }

  TEST_CASE("16 sessions at once tell what each tells alone, in less time than one after another") {
    Swarm swarm;
    add_split(swarm, kSplits[2]);
    Talk single{prompt_of(99, 20), 40, greedy()};
    const TimePoint start = swarm.clock.now();
    CHECK(swarm.hold(single) == "");
    const Duration once = swarm.clock.now() - start;
    std::vector<Talk> talks(16);
    for (std::uint32_t i = 0; i < talks.size(); ++i) {
      talks[i].prompt = prompt_of(i, 5 + 3 * i);
      talks[i].max_tokens = 40;
      talks[i].sampling = i % 2 == 0 ? greedy() : warm(i);
      swarm.start(talks[i]);
    }
    const TimePoint together = swarm.clock.now();
    REQUIRE(swarm.run());
    CHECK(swarm.clock.now() - together < once * 16 / 4);
    for (const Talk& talk : talks) CHECK(Swarm::verdict(talk) == "");
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("a prompt that a peer has seen before is not computed again") {
    Swarm swarm;
    add_split(swarm, kSplits[2]);
    Talk first{prompt_of(1, 43), 30, greedy()};
    CHECK(swarm.hold(first) == "");
    Talk second{prompt_of(1, 43), 30, greedy()};
    CHECK(swarm.hold(second) == "");
    REQUIRE(second.generator->committed().size() == 1);
    CHECK(second.generator->committed()[0].begin == 40);  // ten pages of four were found
    Talk other{prompt_of(2, 43), 30, greedy()};
    CHECK(swarm.hold(other) == "");
    CHECK(other.generator->committed()[0].begin == 0);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("a shared prefix is only as long as the shortest that a peer still has") {
    Swarm swarm;
    add_split(swarm, kSplits[1]);
    Talk first{prompt_of(1, 41), 4, greedy()};
    CHECK(swarm.hold(first) == "");
    swarm.kill("p1");
    swarm.pass(100ms);
    swarm.revive("p1");  // with its cache as it was: kill ends links, not memory
    swarm.add("q", {5, 12});
    swarm.connect();
    swarm.kill("p1");
    Talk second{prompt_of(1, 41), 40, greedy()};
    CHECK(swarm.hold(second) == "");  // "q" has nothing of it
    CHECK(second.generator->committed()[0].begin == 0);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("a prompt of a thousand tokens streams through the stages in chunks") {
    SwarmOptions options;
    options.compute_per_row = 1ms;
    Swarm swarm(options);
    add_split(swarm, kSplits[2]);
    Talk talk{prompt_of(4, 1'000), 2, greedy()};
    const TimePoint start = swarm.clock.now();
    CHECK(swarm.hold(talk) == "");
    // One stage after another would take 3 s.
    CHECK(swarm.clock.now() - start < 1'500ms);
    CHECK(swarm.leaks() == "");
  }

  TEST_CASE("guesses that are verified in one trip save trips, and change no token") {
    for (const SamplingOptions& choice : {greedy(), warm(5)}) {
      Duration taken[2]{};
      for (const std::uint32_t max_draft : {0u, 8u}) {
        Swarm swarm;
        add_split(swarm, kSplits[2]);
        Talk talk{prompt_of(1, 37), 120, choice};
        talk.sampling.logit_bias = {{40, 100}, {41, 97}};  // a text of two words
        talk.max_draft = max_draft;
        const TimePoint start = swarm.clock.now();
        CHECK(swarm.hold(talk) == "");
        taken[max_draft > 0 ? 1 : 0] = swarm.clock.now() - start;
        CHECK(swarm.leaks() == "");
      }
      CHECK(taken[1] < taken[0] * 0.8);
    }
  }
}
