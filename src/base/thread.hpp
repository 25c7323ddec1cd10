// Threads with names, so that a profiler or `top -H` shows who works.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

namespace farmesh {

/// Starts `body` on a thread named `name` (at most 15 characters are kept by Linux).
std::thread start_thread(std::string_view name, std::function<void()> body);

/// Binds the calling thread to one core: number `index`, modulo their count, of those that this
/// process's first thread may use. Where the system refuses, nothing changes.
void pin_this_thread(int index) noexcept;

/// Cores this process may use: the affinity mask, not the machine's count.
int available_cores() noexcept;

}  // namespace farmesh
