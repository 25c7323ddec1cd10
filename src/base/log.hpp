// Log lines for the operator. Never a prompt, token, key or grant in one.
//
// Level from LOG_LEVEL (debug, info, warning, error; info by default) or set_log_level().
// Safe from any thread.
#pragma once

#include <initializer_list>
#include <string_view>

namespace farmesh {

enum class LogLevel { debug, info, warning, error, off };

void set_log_level(LogLevel level) noexcept;
LogLevel log_level() noexcept;

enum class LogFormat { text, json };
void set_log_format(LogFormat format) noexcept;

struct LogField {
  std::string_view key;  // the programmer's: lower case and underscores
  std::string_view value;
};

/// Writes a line to standard error. As text:
///   2026-11-23T08:15:02.123Z info net: peer joined node_id=7f3a
/// as JSON:
///   {"time":"2026-11-23T08:15:02.123Z","level":"info","room":"net","message":"peer
///   joined","node_id":"7f3a"}
void log(LogLevel level, std::string_view room, std::string_view message,
         std::initializer_list<LogField> fields = {});

}  // namespace farmesh
