// Log lines for the operator. Never a prompt, token, key or grant in one.
//
// Level from LOG_LEVEL (debug, info, warning, error; info by default) or set_log_level().
// Safe from any thread.
#pragma once

#include <string_view>

namespace farmesh {

enum class LogLevel { debug, info, warning, error, off };

void set_log_level(LogLevel level) noexcept;
LogLevel log_level() noexcept;

/// Writes "2026-11-23T08:15:02.123Z info net: peer 7f3a joined" to standard error.
void log(LogLevel level, std::string_view room, std::string_view message);

}  // namespace farmesh
