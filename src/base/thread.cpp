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

int available_cores() noexcept {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(getpid(), sizeof mask, &mask) != 0) return 1;
  const int cores = CPU_COUNT(&mask);
  return cores > 0 ? cores : 1;
}

}  // namespace farmesh
