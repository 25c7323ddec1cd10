#include "payout/schedule.hpp"

#include <array>
#include <string>
#include <vector>

namespace farmesh::payout {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::string_view, 7> kDays = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end > 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

std::optional<std::chrono::weekday> parse_day(std::string_view word) {
  for (unsigned i = 0; i < kDays.size(); ++i) {
    if (word == kDays[i]) return std::chrono::weekday(i);
  }
  return std::nullopt;
}

std::optional<std::chrono::minutes> parse_time_of_day(std::string_view word) {
  if (word.size() != 5 || word[2] != ':') return std::nullopt;
  const auto digit = [&](std::size_t i) { return word[i] - '0'; };
  for (const std::size_t i : {0u, 1u, 3u, 4u}) {
    if (digit(i) < 0 || digit(i) > 9) return std::nullopt;
  }
  const int hours = digit(0) * 10 + digit(1);
  const int minutes = digit(3) * 10 + digit(4);
  if (hours > 23 || minutes > 59) return std::nullopt;
  return std::chrono::minutes(hours * 60 + minutes);
}

std::chrono::milliseconds period_of(Schedule::Kind kind) {
  switch (kind) {
    case Schedule::Kind::hourly: return 1h;
    case Schedule::Kind::daily: return 24h;
    case Schedule::Kind::weekly: return 7 * 24h;
  }
  return 24h;
}

}  // namespace

Result<Schedule> parse_schedule(std::string_view text) {
  const Error wrong{Errc::config_invalid,
                    "a schedule is 'weekly mon 00:00', 'daily 06:30' or "
                    "'hourly', not '" +
                        std::string(text) + "'"};
  const auto words = words_of(text);
  if (words.empty()) return wrong;
  Schedule schedule;
  std::size_t next = 1;
  if (words[0] == "weekly") {
    if (words.size() > next) {
      const auto day = parse_day(words[next++]);
      if (!day) return wrong;
      schedule.day = *day;
    }
  } else if (words[0] == "daily") {
    schedule.kind = Schedule::Kind::daily;
  } else if (words[0] == "hourly") {
    schedule.kind = Schedule::Kind::hourly;
  } else {
    return wrong;
  }
  if (words.size() > next && schedule.kind != Schedule::Kind::hourly) {
    const auto time = parse_time_of_day(words[next++]);
    if (!time) return wrong;
    schedule.time = *time;
  }
  return words.size() == next ? Result<Schedule>(schedule) : wrong;
}

LedgerTime last_moment(const Schedule& schedule, LedgerTime now) {
  const auto period = period_of(schedule.kind);
  // A moment of the timetable in the first week of 1970, which began on a Thursday.
  const std::chrono::days to_day = schedule.day - std::chrono::Thursday;
  LedgerTime first = LedgerTime() + schedule.time;
  if (schedule.kind == Schedule::Kind::weekly) first += to_day;
  auto since = (now - first) % period;
  if (since < 0ms) since += period;
  return now - since;
}

LedgerTime next_moment(const Schedule& schedule, LedgerTime now) {
  return last_moment(schedule, now) + period_of(schedule.kind);
}

}  // namespace farmesh::payout
