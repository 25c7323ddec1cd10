// What a batch is made of, in which order, and what becomes of its steps.
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "unit/serve/scheduler_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::code;
using test::embed;
using test::kAllLayers;
using test::Outcome;
using test::Solo;
using test::Tokens;
using Rig = test::SchedulerRig;
using test::session_id;
using test::slices;

}  // namespace

TEST_SUITE("serve/scheduler") {
  TEST_CASE("steps that wait together run in one pass and equal each session alone") {
    Rig rig;
    for (std::uint32_t session = 0; session < 8; ++session) {
      REQUIRE(rig.open(session));
      REQUIRE(rig.step(session, 0, {session + 10}) == Errc::ok);
    }
    CHECK(rig.run_one() == 8);
    CHECK(rig.run_one() == 0);
    for (std::uint32_t session = 0; session < 8; ++session) {
      REQUIRE(rig.step(session, 1, {40 - session}) == Errc::ok);
    }
    CHECK(rig.run_one() == 8);

    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 16);
    std::map<std::uint32_t, Solo> solo;
    for (const Outcome& outcome : outcomes) {
      REQUIRE(outcome.result);
      const Tokens ids{outcome.position == 0 ? outcome.session + 10 : 40 - outcome.session};
      CHECK(bytes_of(outcome.result->rows) ==
            solo[outcome.session].run(outcome.position, embed(ids)));
      CHECK(outcome.result->time.batch_rows == 8);
    }
  }

  TEST_CASE("a long step is cut over several passes, decoders going first in each") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.open(2));
    const Tokens prompt = test::text(3, 19);
    REQUIRE(rig.step(1, 0, prompt) == Errc::ok);
    REQUIRE(rig.step(2, 0, {5}) == Errc::ok);

    using Slices = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(slices(*batch) == Slices{{0, 1}, {0, 7}});
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    REQUIRE(rig.step(2, 1, {6}) == Errc::ok);
    batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(slices(*batch) == Slices{{1, 1}, {7, 7}});
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    CHECK(rig.run_one() == 5);

    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 3);
    REQUIRE(outcomes[2].result);
    CHECK(outcomes[2].session == 1);
    CHECK(bytes_of(outcomes[2].result->rows) == Solo().run(0, embed(prompt)));
    CHECK(rig.scheduler.queued_rows() == 0);
  }

  TEST_CASE("prefills take turns, and more decoders than a batch holds do not starve one") {
    Rig rig;
    REQUIRE(rig.open(100));
    REQUIRE(rig.open(101));
    REQUIRE(rig.step(100, 0, test::text(1, 16)) == Errc::ok);
    REQUIRE(rig.step(101, 0, test::text(2, 16)) == Errc::ok);
    SUBCASE("prefills alone") {
      for (int i = 0; i < 3; ++i) CHECK(rig.run_one() == 8);
      const auto outcomes = rig.take_outcomes();
      REQUIRE(outcomes.size() == 1);
      CHECK(outcomes[0].session == 100);
      rig.run_one();
      CHECK(rig.take_outcomes().size() == 1);
    }
    SUBCASE("beside twelve sessions that always decode") {
      for (std::uint32_t session = 0; session < 12; ++session) {
        REQUIRE(rig.open(session, 20));
        REQUIRE(rig.step(session, 0, {1}) == Errc::ok);
      }
      int prefills = 0;
      std::map<std::uint32_t, std::uint32_t> decoded;
      for (int pass = 0; pass < 16; ++pass) {
        CHECK(rig.run_one() == 8);
        for (const Outcome& outcome : rig.take_outcomes()) {
          if (outcome.session >= 100) {
            ++prefills;
          } else {
            ++decoded[outcome.session];
            REQUIRE(rig.step(outcome.session, outcome.position + 1, {2}) == Errc::ok);
          }
        }
      }
      CHECK(prefills == 2);
      for (std::uint32_t session = 0; session < 12; ++session) CHECK(decoded[session] >= 6);
    }
  }

  TEST_CASE("a batch holds one sub-span of layers, and sub-spans take turns") {
    Rig rig;
    constexpr Span kFront{0, 3};
    REQUIRE(rig.open(1, 64, kFront));
    REQUIRE(rig.open(2, 64, kAllLayers));
    REQUIRE(rig.open(3, 64, kFront));
    for (std::uint32_t session : {1u, 2u, 3u}) REQUIRE(rig.step(session, 0, {9, 9}) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(batch->blocks == kFront);
    CHECK(batch->slices.size() == 2);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    REQUIRE(rig.step(1, 2, {9}) == Errc::ok);
    batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(batch->blocks == kAllLayers);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    rig.run_all();
    for (const Outcome& outcome : rig.take_outcomes()) {
      if (outcome.position != 0) continue;
      const Span span = outcome.session == 2 ? kAllLayers : kFront;
      REQUIRE(outcome.result);
      CHECK(bytes_of(outcome.result->rows) == Solo(span).run(0, embed({9, 9})));
    }
  }

  TEST_CASE("a full queue is busy for those who flood it, and takes one row of those who decode") {
    WorkerLimits limits = Rig::small_limits();
    limits.window_steps = 100;
    limits.max_queued_rows = 32;
    Rig rig(limits);
    REQUIRE(rig.open(1, 128));
    REQUIRE(rig.open(2, 16));
    std::uint32_t position = 0;
    while (rig.step(1, position, test::text(1, 8)) == Errc::ok) position += 8;
    CHECK(position == 32);
    CHECK(rig.step(1, position, {1}) == Errc::busy);
    CHECK(rig.step(2, 0, {3, 4}) == Errc::busy);
    REQUIRE(rig.step(2, 0, {3}) == Errc::ok);
    CHECK(rig.step(2, 1, {3}) == Errc::busy);
    CHECK(rig.scheduler.queued_rows() == 33);
    rig.run_one();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].session == 2);
    rig.run_all();
    CHECK(rig.take_outcomes().size() == 4);
    CHECK(rig.scheduler.queued_rows() == 0);
  }

  TEST_CASE("a lapsed deadline drops the step before it begins, and those queued behind it") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, {1}, 1, rig.now + 10ms) == Errc::ok);
    REQUIRE(rig.step(1, 1, {2}) == Errc::ok);
    rig.now += 11ms;
    CHECK(rig.run_one() == 0);
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 2);
    CHECK(code(outcomes[0]) == Errc::deadline_passed);
    CHECK(code(outcomes[1]) == Errc::position_gap);
    CHECK(rig.step(1, 1, {2}) == Errc::position_gap);
    CHECK(rig.step(1, 0, {1}, 1, rig.now) == Errc::ok);  // due now is not late
    CHECK(rig.run_one() == 1);
  }

  TEST_CASE("a deadline that lapses in mid-step lets the step end") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, test::text(1, 12), 1, rig.now + 10ms) == Errc::ok);
    CHECK(rig.run_one() == 8);
    rig.now += 1h;
    CHECK(rig.run_one() == 4);
    CHECK(code(rig.take_outcomes().at(0)) == Errc::ok);
  }

  TEST_CASE("a failed pass fails its steps, and the session goes on from before them") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.open(2));
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    REQUIRE(rig.step(1, 2, {3}) == Errc::ok);
    REQUIRE(rig.step(2, 0, {9}) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    rig.compute(*batch);
    for (auto& slice : batch->slices) {
      if (slice.rows == 2) slice.result = Error{Errc::compute_failed, "kernel"};
    }
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 3);
    for (const Outcome& outcome : outcomes) {
      if (outcome.session == 2) CHECK(code(outcome) == Errc::ok);
      if (outcome.session == 1) {
        CHECK(code(outcome) == (outcome.position == 0 ? Errc::compute_failed : Errc::position_gap));
      }
    }
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    rig.run_all();
    const auto retried = rig.take_outcomes();
    REQUIRE(retried.at(0).result);
    CHECK(bytes_of(retried[0].result->rows) == Solo().run(0, embed({1, 2})));
  }

  TEST_CASE("times tell waiting from computing") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, test::text(1, 16)) == Errc::ok);
    for (int pass = 0; pass < 2; ++pass) {
      rig.now += 5ms;
      auto batch = rig.scheduler.next_batch(rig.now);
      REQUIRE(batch);
      rig.compute(*batch);
      rig.now += 20ms;
      rig.scheduler.finish_batch(std::move(*batch), rig.now);
    }
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.at(0).result);
    CHECK(outcomes[0].result->time.queue_us == 10'000);
    CHECK(outcomes[0].result->time.compute_us == 40'000);
    CHECK(outcomes[0].result->time.batch_rows == 8);
  }
}

}  // namespace farmesh::serve
