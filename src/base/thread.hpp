// Threads with names, so that a profiler or `top -H` shows who works.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <thread>

#include <sched.h>
#include <unistd.h>

namespace farmesh {

/// Starts `body` on a thread named `name` (at most 15 characters are kept by Linux).
std::thread start_thread(std::string_view name, std::function<void()> body);

// These three are all here for kernels/, which links no library.

/// Number `index`, modulo their count, of the cores that this process's first thread may use: the
/// calling one may have inherited a narrower mask from who started it. Nothing where the system
/// does not tell.
inline std::optional<int> process_core(int index) noexcept {
  cpu_set_t all;
  CPU_ZERO(&all);
  if (sched_getaffinity(getpid(), sizeof all, &all) != 0 || CPU_COUNT(&all) == 0) return {};
  int left = index % CPU_COUNT(&all);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &all) && left-- == 0) return core;
  }
  return {};
}

/// Binds the calling thread to `core`. Where the system refuses, nothing changes.
inline void pin_this_thread_to(int core) noexcept {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  sched_setaffinity(0, sizeof one, &one);
}

/// The same to process_core(index).
inline void pin_this_thread(int index) noexcept {
  if (const std::optional<int> core = process_core(index)) pin_this_thread_to(*core);
}

/// Cores that this process's first thread may use: its affinity mask, not the machine's count, and
/// not the calling thread's, which may be bound to one.
int available_cores() noexcept;

}  // namespace farmesh
