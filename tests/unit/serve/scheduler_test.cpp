#include "serve/scheduler.hpp"

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
using test::kPages;
using test::kPageTokens;
using test::kRowBytes;
using test::names_of;
using test::session_id;

}  // namespace

TEST_SUITE("serve/scheduler") {
  TEST_CASE("what cannot be opened is refused by name") {
    Rig rig;
    CHECK(rig.open(1, 64, {0, 7}).error().code == Errc::span_unavailable);
    CHECK(rig.open(1, 64, {3, 3}).error().code == Errc::span_unavailable);
    CHECK(rig.open(1, 0).error().code == Errc::invalid_argument);
    CHECK(rig.open(1, wire::kMaxPosition + 1).error().code == Errc::invalid_argument);
    CHECK(rig.open(1, kPages * kPageTokens + 1).error().code == Errc::no_cache_space);
    CHECK(rig.scheduler.sessions() == 0);
    CHECK(rig.step(1, 0, {1}) == Errc::session_unknown);
    CHECK(rig.truncate(1, 0) == Errc::session_unknown);
    CHECK_FALSE(rig.scheduler.positions(session_id(1)));

    WorkerLimits limits = Rig::small_limits();
    limits.max_sessions = 2;
    Rig full(limits);
    REQUIRE(full.open(1));
    REQUIRE(full.open(2));
    CHECK(full.open(3).error().code == Errc::too_many_sessions);
    full.scheduler.close(session_id(1));
    CHECK(full.open(3));
  }

  TEST_CASE("steps that do not fit are refused, and change nothing") {
    Rig rig;
    REQUIRE(rig.open(1, 40));
    REQUIRE(rig.open(2, 40));
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    CHECK(rig.step(1, 0, {1, 2}) == Errc::position_gap);  // sent twice
    CHECK(rig.step(1, 3, {1}) == Errc::position_gap);
    CHECK(rig.step(1, 2, {}) == Errc::bad_shape);
    CHECK(rig.step(1, 2, test::text(1, 33)) == Errc::bad_shape);
    CHECK(rig.step(2, 20, test::text(1, 21)) == Errc::invalid_argument);
    CHECK(rig.step(1, 2, {1}, 0) == Errc::stale_epoch);
    StepWork narrow;
    narrow.session = session_id(1);
    narrow.epoch = 1;
    narrow.position = 2;
    narrow.count = 1;
    narrow.input = Payload(AlignedBuffer(kRowBytes - 4));
    CHECK(rig.scheduler.step(narrow, {}, rig.now).error().code == Errc::bad_shape);

    for (std::uint32_t position : {2u, 3u, 4u}) REQUIRE(rig.step(1, position, {1}) == Errc::ok);
    CHECK(rig.step(1, 5, {1}) == Errc::busy);                           // the window of four
    CHECK(rig.step(1, 5, {1}, 1, TimePoint::max(), true) == Errc::ok);  // replays come at once
    rig.run_all();
    CHECK(rig.take_outcomes().size() == 5);
    CHECK(rig.scheduler.positions(session_id(1)) == 6u);
  }

  TEST_CASE("a newer epoch discards what older ones queued, and may step back") {
    Rig rig;
    REQUIRE(rig.open(1));
    const Tokens prompt = test::text(5, 6);
    REQUIRE(rig.step(1, 0, prompt) == Errc::ok);
    rig.run_all();
    REQUIRE(rig.step(1, 6, {1}) == Errc::ok);
    REQUIRE(rig.step(1, 7, {2}) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);  // position 6 is running
    REQUIRE(batch);
    rig.take_outcomes();

    SUBCASE("by a step below what is computed") {
      CHECK(rig.step(1, 8, {4}, 2) == Errc::position_gap);  // beyond what is computed whole
      REQUIRE(rig.step(1, 4, {33, 34}, 2) == Errc::ok);
    }
    SUBCASE("by open, then a step") {
      const auto reply = rig.open(1, 64, kAllLayers, 2);
      REQUIRE(reply);
      CHECK(reply->held_positions == 6);
      CHECK(rig.step(1, 6, {1}, 1) == Errc::stale_epoch);
      CHECK(rig.truncate(1, 4, 1) == Errc::stale_epoch);
      REQUIRE(rig.truncate(1, 4, 2) == Errc::ok);
      REQUIRE(rig.step(1, 4, {33, 34}, 2) == Errc::ok);
    }
    const auto dropped = rig.take_outcomes();
    REQUIRE(dropped.size() == 2);
    CHECK(code(dropped[0]) == Errc::stale_epoch);
    CHECK(code(dropped[1]) == Errc::stale_epoch);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    rig.run_all();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    REQUIRE(outcomes[0].result);
    Solo solo;
    solo.run(0, embed(prompt));
    CHECK(bytes_of(outcomes[0].result->rows) == solo.run(4, embed({33, 34})));
  }

  TEST_CASE("a newer epoch with another span empties the cache") {
    Rig rig;
    REQUIRE(rig.open(1, 64, {0, 3}));
    REQUIRE(rig.step(1, 0, test::text(1, 8)) == Errc::ok);
    rig.run_all();
    CHECK(rig.open(1, 64, {0, 4}).error().code == Errc::invalid_argument);
    const auto reply = rig.open(1, 64, {0, 4}, 2);
    REQUIRE(reply);
    CHECK(reply->held_positions == 0);
    CHECK(rig.scheduler.pool().used() == 0);
    CHECK(rig.step(1, 8, {1}, 2) == Errc::position_gap);
    CHECK(rig.step(1, 0, {1}, 2) == Errc::ok);
    CHECK(rig.open(1, 64, {0, 4}, 1).error().code == Errc::stale_epoch);

    const auto refused = rig.open(1, kPages * kPageTokens + 1, {0, 5}, 3);
    CHECK(refused.error().code == Errc::no_cache_space);
    CHECK(rig.scheduler.sessions() == 0);
    CHECK(rig.scheduler.pool().promisable() == kPages);
  }

  TEST_CASE("a truncation ends queued steps that reach beyond it") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    REQUIRE(rig.step(1, 2, {3}) == Errc::ok);
    REQUIRE(rig.step(1, 3, {4}) == Errc::ok);
    REQUIRE(rig.truncate(1, 3) == Errc::ok);
    auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].position == 3);
    CHECK(code(outcomes[0]) == Errc::cancelled);
    REQUIRE(rig.step(1, 3, {50}) == Errc::ok);
    rig.run_all();
    outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 3);
    Solo solo;
    solo.run(0, embed({1, 2, 3}));
    REQUIRE(outcomes[2].result);
    CHECK(bytes_of(outcomes[2].result->rows) == solo.run(3, embed({50})));
    REQUIRE(rig.truncate(1, 100) == Errc::ok);  // nothing there to forget
    CHECK(rig.scheduler.positions(session_id(1)) == 4u);
  }

  TEST_CASE("a session closed in mid-batch leaves no result and its pages to nobody in it") {
    Rig rig(Rig::small_limits(), 8);
    REQUIRE(rig.open(1, 16));
    REQUIRE(rig.step(1, 0, test::text(1, 8)) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    rig.scheduler.close(session_id(1));
    CHECK(rig.scheduler.pool().free() == 8);
    REQUIRE(rig.open(1, 32));  // the same id again, wanting every page
    REQUIRE(rig.step(1, 0, {7, 8, 9}) == Errc::ok);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    rig.run_all();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    REQUIRE(outcomes[0].result);
    CHECK(bytes_of(outcomes[0].result->rows) == Solo().run(0, embed({7, 8, 9})));
  }

  TEST_CASE("a result that waits to be taken vanishes when its session closes") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, {1}) == Errc::ok);
    rig.run_all();
    CHECK(rig.scheduler.has_finished());
    rig.scheduler.close(session_id(1));
    CHECK_FALSE(rig.scheduler.has_finished());
  }

  TEST_CASE("a second session starts after the prefix that the first computed") {
    Rig rig;
    const Tokens prompt = test::text(8, 14);
    REQUIRE(rig.open(1, 32, kAllLayers, 1, names_of(prompt)));
    REQUIRE(rig.step(1, 0, prompt) == Errc::ok);
    rig.run_all();
    rig.take_outcomes();

    auto reply = rig.open(2, 32, kAllLayers, 1, names_of(prompt));
    REQUIRE(reply);
    CHECK(reply->held_positions == 12);
    SUBCASE("and computes the same") {
      REQUIRE(rig.step(2, 12, {prompt[12], prompt[13], 60}) == Errc::ok);
    }
    SUBCASE("also after a cut inside the shared page, which leaves the first one's rows alone") {
      REQUIRE(rig.truncate(2, 10) == Errc::ok);
      REQUIRE(rig.step(2, 10, {70, 71, 72}) == Errc::ok);
      rig.run_all();
      rig.take_outcomes();
      REQUIRE(rig.step(1, 14, {60}) == Errc::ok);
      rig.run_all();
      const auto outcomes = rig.take_outcomes();
      REQUIRE(outcomes.at(0).result);
      Solo solo;
      solo.run(0, embed(prompt));
      CHECK(bytes_of(outcomes[0].result->rows) == solo.run(14, embed({60})));
      REQUIRE(rig.truncate(2, 10) == Errc::ok);
      REQUIRE(rig.step(2, 10, {prompt[10], prompt[11], prompt[12], prompt[13], 60}) == Errc::ok);
    }
    rig.run_all();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    REQUIRE(outcomes[0].result);
    Tokens whole = prompt;
    whole.push_back(60);
    const auto expected = Solo().run(0, embed(whole));
    const auto got = bytes_of(outcomes[0].result->rows);
    CHECK(got ==
          test::Bytes(expected.end() - static_cast<std::ptrdiff_t>(got.size()), expected.end()));

    CHECK(rig.open(3, 32, {0, 5}, 1, names_of(prompt))->held_positions == 0);
    CHECK(rig.open(4, 32, kAllLayers, 1, names_of(prompt), 2)->held_positions == 0);
  }

  TEST_CASE("a later turn names the pages of the turn before") {
    Rig rig;
    const Tokens conversation = test::text(4, 16);
    REQUIRE(rig.open(1, 32));
    REQUIRE(rig.step(1, 0, conversation) == Errc::ok);
    rig.run_all();
    CHECK(rig.open(2, 32, kAllLayers, 1, names_of(conversation))->held_positions == 0);
    const auto again = rig.open(1, 32, kAllLayers, 1, names_of(conversation));
    REQUIRE(again);
    CHECK(again->held_positions == 16);
    CHECK(rig.open(3, 32, kAllLayers, 1, names_of(conversation))->held_positions == 16);
  }

  TEST_CASE("a session that nobody touches is closed, one that waits is not") {
    Rig rig;
    CHECK_FALSE(rig.scheduler.idle_deadline());
    REQUIRE(rig.open(1));
    rig.now += 30min;
    REQUIRE(rig.open(2));
    REQUIRE(rig.open(3));
    REQUIRE(rig.step(3, 0, {1}) == Errc::ok);
    CHECK(*rig.scheduler.idle_deadline() == TimePoint{} + 60min);
    rig.now += 30min;
    CHECK(rig.scheduler.close_idle(rig.now) == std::vector{session_id(1)});
    rig.now += 30min;
    CHECK(rig.scheduler.close_idle(rig.now) == std::vector{session_id(2)});
    CHECK(rig.scheduler.sessions() == 1);
    CHECK_FALSE(rig.scheduler.idle_deadline());
  }

  TEST_CASE("sessions that nobody touches make room, the stalest first, and only if that helps") {
    Rig rig;
    wire::Open wanted;
    wanted.session = session_id(9);
    wanted.max_positions = kPages * kPageTokens;
    for (const std::uint32_t number : {1u, 2u, 3u}) {
      REQUIRE(rig.open(number));
      rig.now += 10s;
    }
    REQUIRE(rig.step(1, 0, {1}) == Errc::ok);  // waits to be computed
    rig.now += 45s;
    CHECK(rig.scheduler.make_room(wanted, rig.now) == session_id(2));
    CHECK_FALSE(rig.scheduler.make_room(wanted, rig.now));
    rig.now += 10s;
    wanted.max_positions += 1;
    CHECK_FALSE(rig.scheduler.make_room(wanted, rig.now));
    wanted.max_positions -= 1;
    wanted.session = session_id(3);
    CHECK_FALSE(rig.scheduler.make_room(wanted, rig.now));  // not its own
    wanted.session = session_id(9);
    CHECK(rig.scheduler.make_room(wanted, rig.now) == session_id(3));
    CHECK(rig.scheduler.sessions() == 1);
  }
}

}  // namespace farmesh::serve
