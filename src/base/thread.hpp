// Threads with names, so that a profiler or `top -H` shows who works.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

namespace farmesh {

/// Starts `body` on a thread named `name` (at most 15 characters are kept by Linux).
std::thread start_thread(std::string_view name, std::function<void()> body);

/// Cores this process may use: the affinity mask, not the machine's count.
int available_cores() noexcept;

}  // namespace farmesh
