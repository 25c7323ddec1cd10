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

std::atomic<LogFormat>& current_format() noexcept {
  static std::atomic<LogFormat> format{LogFormat::text};
  return format;
}

// Whatever the bytes, the line stays one line and, but for its UTF-8, sound JSON.
void append_quoted(std::string& line, std::string_view text) {
  line += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      line += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  line += '"';
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

void set_log_format(LogFormat format) noexcept { current_format() = format; }

void log(LogLevel level, std::string_view room, std::string_view message,
         std::initializer_list<LogField> fields) {
  if (level < log_level() || level == LogLevel::off) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const std::time_t seconds = millis / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  const std::string time =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                  utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, millis % 1000);
  const bool json = current_format() == LogFormat::json;
  std::string line;
  if (json) {
    line = fmt::format(R"({{"time":"{}","level":"{}","room":"{}","message":)", time, word(level),
                       room);
    append_quoted(line, message);
  } else {
    line = fmt::format("{} {} {}: {}", time, word(level), room, message);
  }
  for (const LogField& field : fields) {
    if (json) {
      line += fmt::format(",\"{}\":", field.key);
      append_quoted(line, field.value);
    } else if (!field.value.empty()) {
      line += fmt::format(" {}={}", field.key, field.value);
    }
  }
  line += json ? "}\n" : "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);  // one write a line: lines never interleave
}

}  // namespace farmesh
