// Timetables.
#include "payout/schedule.hpp"

#include <doctest/doctest.h>

namespace farmesh::payout {
namespace {

using namespace std::chrono_literals;
using std::chrono::sys_days;
using std::chrono::year;

LedgerTime at(int month, unsigned day, std::chrono::minutes time) {
  return sys_days(year(2026) / month / static_cast<int>(day)) + time;
}

}  // namespace

TEST_SUITE("payout/schedule") {
  TEST_CASE("weekly means Monday at midnight, in UTC, unless another moment is named") {
    const auto weekly = parse_schedule("weekly");
    REQUIRE(weekly);
    CHECK(*weekly == Schedule());
    const LedgerTime monday = at(11, 23, 0min);
    CHECK(last_moment(*weekly, monday) == monday);
    CHECK(last_moment(*weekly, monday - 1ms) == at(11, 16, 0min));
    CHECK(last_moment(*weekly, monday + 7 * 24h - 1ms) == monday);
    CHECK(next_moment(*weekly, monday) == at(11, 30, 0min));
    const auto friday = parse_schedule("weekly fri 18:30");
    REQUIRE(friday);
    CHECK(last_moment(*friday, monday) == at(11, 20, 18h + 30min));
  }

  TEST_CASE("daily and hourly") {
    const auto daily = parse_schedule("daily 06:30");
    REQUIRE(daily);
    CHECK(last_moment(*daily, at(11, 23, 6h)) == at(11, 22, 6h + 30min));
    const auto hourly = parse_schedule("hourly");
    REQUIRE(hourly);
    CHECK(last_moment(*hourly, at(11, 23, 6h + 59min)) == at(11, 23, 6h));
    CHECK(last_moment(*hourly, LedgerTime(-1ms)) == LedgerTime(-1h));
  }

  TEST_CASE("other text is refused, by name") {
    for (const char* text : {"", "yearly", "weekly someday", "weekly mon 25:00", "daily 6:30",
                             "daily 06:30 more", "hourly 00:10"}) {
      CAPTURE(text);
      const auto refused = parse_schedule(text);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == Errc::config_invalid);
    }
  }
}

}  // namespace farmesh::payout
