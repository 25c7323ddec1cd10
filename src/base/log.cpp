#include "base/log.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include <fmt/format.h>

namespace farmesh {
namespace {

LogLevel level_from_environment() noexcept {
  const char* text = std::getenv("LOG_LEVEL");
  if (text == nullptr) return LogLevel::info;
  std::string level;
  for (const char* c = text; *c != 0; ++c)
    level += static_cast<char>(*c | 0x20);  // ASCII lower case
  if (level == "debug") return LogLevel::debug;
  if (level == "warning" || level == "warn") return LogLevel::warning;
  if (level == "error") return LogLevel::error;
  if (level == "off") return LogLevel::off;
  return LogLevel::info;
}

std::atomic<LogLevel>& current_level() noexcept {
  static std::atomic<LogLevel> level{level_from_environment()};
  return level;
}

constexpr std::string_view word(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
    case LogLevel::off: return "off";
  }
  return "?";
}

}  // namespace

void set_log_level(LogLevel level) noexcept { current_level() = level; }
LogLevel log_level() noexcept { return current_level(); }

void log(LogLevel level, std::string_view room, std::string_view message) {
  if (level < log_level() || level == LogLevel::off) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const std::time_t seconds = millis / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  const std::string line = fmt::format(
      "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z {} {}: {}\n", utc.tm_year + 1900, utc.tm_mon + 1,
      utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, millis % 1000, word(level), room, message);
  std::fwrite(line.data(), 1, line.size(), stderr);  // one write a line: lines never interleave
}

}  // namespace farmesh
