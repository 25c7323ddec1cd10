#include "base/thread.hpp"

#include <string>
#include <utility>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

namespace farmesh {

std::thread start_thread(std::string_view name, std::function<void()> body) {
  return std::thread([name = std::string(name.substr(0, 15)), body = std::move(body)] {
    pthread_setname_np(pthread_self(), name.c_str());
    body();
  });
}

void pin_this_thread(int index) noexcept {
  // Of the first thread, as this one may have inherited a narrower mask from who started it.
  cpu_set_t all;
  CPU_ZERO(&all);
  if (sched_getaffinity(getpid(), sizeof all, &all) != 0 || CPU_COUNT(&all) == 0) return;
  int left = index % CPU_COUNT(&all);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &all) || left-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

int available_cores() noexcept {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  const int cores = CPU_COUNT(&mask);
  return cores > 0 ? cores : 1;
}

}  // namespace farmesh
