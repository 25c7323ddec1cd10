// When work is paid: the moments of a weekly, daily or hourly timetable. Pure functions.
#pragma once

#include <optional>
#include <string_view>

#include <farmesh/ledger.hpp>

namespace farmesh::payout {

struct Schedule {
  enum class Kind : std::uint8_t { hourly, daily, weekly };
  Kind kind = Kind::weekly;
  std::chrono::weekday day = std::chrono::Monday;  // weekly only
  std::chrono::minutes time{0};                    // UTC; hourly: within the hour

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// "weekly", "weekly mon 00:00", "daily 06:30", "hourly". Fails with config_invalid.
Result<Schedule> parse_schedule(std::string_view text);

/// The last moment of the timetable that is not after `now`.
LedgerTime last_moment(const Schedule& schedule, LedgerTime now);
LedgerTime next_moment(const Schedule& schedule, LedgerTime now);

}  // namespace farmesh::payout
