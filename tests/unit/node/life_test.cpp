#include "node/life.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <optional>

#include <doctest/doctest.h>

namespace farmesh::node {
namespace {

using namespace std::chrono_literals;

LifeOptions options() {
  LifeOptions options;
  options.look_every = 100s;
  options.hole_patience = 10s;
  return options;
}

SpanMove move_for(MoveReason reason, std::uint32_t turn = 0) { return {{3, 6}, reason, turn}; }

/// How long a wish that stays must be wished for, in steps of a second.
std::optional<int> seconds_until_due(Patience& patience, const SpanMove& wish, int most) {
  for (int second = 0; second <= most; ++second) {
    if (patience.consider(wish, TimePoint{} + std::chrono::seconds(second))) return second;
  }
  return std::nullopt;
}

}  // namespace

TEST_SUITE("node/life") {
  TEST_CASE("a hole is closed after a short patience, balance is sought after a long one") {
    Patience patience(options());
    const auto hole = seconds_until_due(patience, move_for(MoveReason::closes_hole), 1'000);
    REQUIRE(hole);
    CHECK(*hole >= 10);
    CHECK(*hole <= 16);
    const auto balance = seconds_until_due(patience, move_for(MoveReason::balance), 1'000);
    REQUIRE(balance);
    CHECK(*balance >= 100);
    CHECK(*balance <= 151);
  }

  TEST_CASE("who is not first in turn waits for those before, but not for ever") {
    Patience patience(options());
    const auto third = seconds_until_due(patience, move_for(MoveReason::closes_hole, 2), 1'000);
    REQUIRE(third);
    CHECK(*third >= 30);
    CHECK(*third <= 46);
    const auto last = seconds_until_due(patience, move_for(MoveReason::closes_hole, 5'000), 1'000);
    REQUIRE(last);
    CHECK(*last <= 136);
  }

  TEST_CASE("a wish that passes, or turns into another, begins anew") {
    Patience patience(options());
    const auto hole = move_for(MoveReason::closes_hole);
    CHECK_FALSE(patience.consider(hole, TimePoint{} + 0s));
    CHECK_FALSE(patience.consider(std::nullopt, TimePoint{} + 9s));  // whoever left is back
    CHECK_FALSE(patience.consider(hole, TimePoint{} + 16s));
    CHECK_FALSE(patience.consider(move_for(MoveReason::balance), TimePoint{} + 40s));
    CHECK_FALSE(patience.consider(move_for(MoveReason::balance), TimePoint{} + 130s));
    CHECK(patience.consider(move_for(MoveReason::balance), TimePoint{} + 200s));
    CHECK_FALSE(patience.consider(hole, TimePoint{} + 201s));  // made, or not: from the start
  }

  TEST_CASE("it looks again when a wish comes due") {
    Patience patience(options());
    CHECK(patience.next_look(TimePoint{} + 5s) == TimePoint{} + 105s);
    CHECK_FALSE(patience.consider(move_for(MoveReason::closes_hole), TimePoint{} + 5s));
    CHECK(patience.next_look(TimePoint{} + 5s) >= TimePoint{} + 15s);
    CHECK(patience.next_look(TimePoint{} + 5s) <= TimePoint{} + 20s);
  }

  TEST_CASE("a life looks when it is nudged, moves, and ends at once") {
    std::atomic<int> looks = 0;
    std::atomic<bool> needed = false;
    std::promise<Span> moved;
    LifeOptions quick = options();
    quick.hole_patience = 1ms;
    Life life(quick, {[&] {
                        ++looks;
                        return needed ? std::optional(move_for(MoveReason::closes_hole))
                                      : std::nullopt;
                      },
                      [&](const SpanMove& move) {
                        if (needed.exchange(false)) moved.set_value(move.span);
                      }});
    needed = true;
    life.nudge();
    auto where = moved.get_future();
    REQUIRE(where.wait_for(30s) == std::future_status::ready);
    CHECK(where.get() == Span{3, 6});
    CHECK(looks >= 2);
  }
}

}  // namespace farmesh::node
