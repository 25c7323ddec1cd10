// Many sessions on many peers that die and come back, and what the mesh's figures must be.

#include <doctest/doctest.h>

#include "node/swarm_load.hpp"

using namespace farmesh;
using namespace farmesh::sim;
using namespace std::chrono_literals;

namespace {

void check_load(const Load& load, double most_seconds_between_tokens) {
  const auto report = run_load(load);
  REQUIRE(report);
  for (const std::string& failure : report->failures) FAIL_CHECK(failure);
  CHECK(report->started >= load.sessions);
  CHECK(report->completed == report->started);
  CHECK(report->longest_ms < 1'000 * most_seconds_between_tokens);
  MESSAGE(report->started << " sessions, " << report->tokens << " tokens at "
                          << report->tokens_per_second() << " a second, " << report->p50_ms
                          << " ms p50, " << report->p99_ms << " ms p99, " << report->longest_ms
                          << " ms the longest, " << report->kills << " kills, "
                          << report->recoveries << " recoveries");
}

Load killing(std::uint32_t sessions, Duration duration, std::uint64_t seed) {
  Load load;
  load.kinds = {{16, 4, 200us}, {6, 6, 150us}, {2, 12, 400us}};
  load.network = {15ms, 5ms, 1e7};
  load.sessions = sessions;
  load.tokens = 80;
  load.duration = duration;
  load.kill_every = 2s;
  load.seed = seed;
  return load;
}

}  // namespace

TEST_SUITE("sim/load") {
  TEST_CASE("sessions with a peer killed every two seconds: all complete, a sample") {
    const std::uint64_t seed = seed_or(11);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    check_load(killing(30, 30s, seed), 10);
  }

  TEST_CASE("a bad network and bad clocks cost time, not tokens") {
    Load load = killing(10, 20s, 21);
    load.network.loss = 0.02;
    load.network.jitter = 40ms;
    load.drift = 0.03;
    check_load(load, 30);
  }

  TEST_CASE("nodes that do not cover the model, or hold nothing, are told so") {
    Load load;
    load.kinds = {{2, 4, 1ms}};
    CHECK(run_load(load).error().code == Errc::no_route);
    load.kinds = {{2, 0, 1ms}};
    CHECK(run_load(load).error().code == Errc::invalid_argument);
  }

  TEST_CASE("over three hops of 25 ms one way a token takes one trip round the ring") {
    const WanReport wan = wan_decode(25ms, 5ms, 60);
    MESSAGE("ring " << wan.ring_ms << " ms, latencies and compute " << wan.bound_ms
                    << " ms, by way of the driver " << wan.hub_ms << " ms");
    CHECK(wan.ring_ms <= 1.15 * wan.bound_ms);
    CHECK(wan.hub_ms > 1.3 * wan.ring_ms);
  }

  TEST_CASE(
      "sessions that come together fill every stage of a chain, in groups as large as can be") {
    for (const std::uint32_t sessions : {4u, 8u, 16u, 32u}) {
      PipelineKind kind;
      kind.sessions = sessions;
      const PipelineReport report = pipeline(kind);
      MESSAGE(sessions << " sessions: " << report.busy << " of the time busy, "
                       << report.tokens_per_second << " tokens a second");
      CHECK(report.busy >= 0.95);
      // Four groups a round, each of a quarter of the sessions.
      CHECK(report.tokens_per_second >= 0.9 * sessions / 4 / 0.005);
    }
  }

  TEST_CASE("odd numbers of sessions, unequal stages, rows that cost and jitter keep stages busy") {
    PipelineKind odd;
    odd.sessions = 13;
    odd.jitter = 20us;
    CHECK(pipeline(odd).busy >= 0.9);
    PipelineKind costly;
    costly.per_row = 500us;
    CHECK(pipeline(costly).busy >= 0.85);
    PipelineKind slow;
    slow.last_stage = 3;  // 20 ms of 30 are the other three's
    CHECK(pipeline(slow).busy >= 0.5);
  }

  TEST_CASE("over long links, guesses at a text that repeats itself halve a token's time") {
    const DraftReport draft = wan_draft(25ms, 5ms, 200);
    MESSAGE(draft.plain_ms << " ms a token, guessing " << draft.draft_ms << " ms");
    CHECK(draft.draft_ms > 0);
    CHECK(draft.draft_ms <= 0.5 * draft.plain_ms);
  }

  TEST_CASE("recovery takes no longer than detection, one prefill of the lost span and 300 ms") {
    for (const std::uint32_t positions : {128u, 1'024u, 4'096u}) {
      const RecoveryReport report = recovery_at(positions);
      MESSAGE(positions << " tokens: " << report.recovery_ms << " ms; detection "
                        << report.detection_ms << " ms, prefill " << report.prefill_ms << " ms");
      CHECK(report.recovery_ms > 0);
      CHECK(report.recovery_ms <= report.detection_ms + report.prefill_ms + 300);
    }
  }
}

TEST_SUITE("chaos") {
  TEST_CASE("200 sessions, a peer killed every two seconds for five minutes" * doctest::skip()) {
    const std::uint64_t seed = seed_or(12);
    MESSAGE("seed " << seed << " (FARMESH_SEED sets it)");
    check_load(killing(200, 300s, seed), 30);
  }
}
