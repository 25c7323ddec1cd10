#include "kernels/thread_pool.hpp"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sched.h>

#include "base/thread.hpp"

namespace farmesh::kernels {
namespace {

/// The one core that the calling thread may use; nothing where there are more.
std::optional<int> own_core() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) != 1) return {};
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &mask)) return core;
  }
  return {};
}

/// Calls body(worker) once on each of the pool's threads.
template <class Body>
void on_each(ThreadPool& pool, const Body& body) {
  std::vector<std::atomic<bool>> came(static_cast<std::size_t>(pool.threads()));
  // Nobody leaves before all came, so that nobody takes two.
  pool.for_each(pool.threads(), 1, [&](std::int64_t, std::int64_t, int worker) {
    body(worker);
    came[static_cast<std::size_t>(worker)] = true;
    came[static_cast<std::size_t>(worker)].notify_all();
    for (auto& other : came) other.wait(false);
  });
}

TEST_SUITE("kernels/thread_pool") {
  TEST_CASE("every item is visited exactly once, loop after loop") {
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      CHECK(pool.threads() == threads);
      const ThreadPool::Awake awake(pool);
      std::atomic<bool> known_worker{true};
      for (std::int64_t items = 0; items < 400; ++items) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(items));
        pool.for_each(items, 1 + items % 7, [&](std::int64_t begin, std::int64_t end, int worker) {
          if (worker < 0 || worker >= threads) known_worker = false;
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        bool once = true;
        for (const auto& count : visits) once = once && count == 1;
        CHECK(once);
      }
      CHECK(known_worker);
    }
  }

  TEST_CASE("no two calls at once share a worker number") {
    ThreadPool pool(4);
    std::vector<std::atomic<int>> inside(4);
    std::atomic<bool> shared{false};
    for (int loop = 0; loop < 200; ++loop) {
      pool.for_each(32, 1, [&](std::int64_t, std::int64_t, int worker) {
        if (++inside[static_cast<std::size_t>(worker)] > 1) shared = true;
        std::this_thread::yield();
        --inside[static_cast<std::size_t>(worker)];
      });
    }
    CHECK_FALSE(shared);
  }

  TEST_CASE("what a body writes is there when the loop returns") {
    ThreadPool pool(3);
    std::vector<int> values(1000);
    for (int loop = 1; loop < 300; ++loop) {
      pool.for_each(1000, 10, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] = loop;
      });
      bool written = true;
      for (const int value : values) written = written && value == loop;
      REQUIRE(written);
    }
  }

  TEST_CASE("asked for it, threads compute on one core each, from the first one on") {
    for (const int first : {0, 1, 1'023}) {
      std::thread([&] {  // as the caller stays bound
        const std::optional<int> before = own_core();
        ThreadPool pool(3, first);
        std::vector<std::optional<int>> cores(3);
        const auto look = [&](int worker) { cores[static_cast<std::size_t>(worker)] = own_core(); };
        on_each(pool, look);
        CHECK(cores[0] == before);  // an application's thread that only loads weights
        const ThreadPool::Awake awake(pool);
        on_each(pool, look);
        for (int worker = 0; worker < 3; ++worker) {
          CHECK(cores[static_cast<std::size_t>(worker)] == process_core(first + worker));
        }
      })
          .join();
    }
  }

  TEST_CASE("nobody is bound to a core unless that was asked for") {
    const std::optional<int> before = own_core();
    ThreadPool pool(2);
    const ThreadPool::Awake awake(pool);
    on_each(pool, [&](int) { CHECK(own_core() == before); });
  }

  TEST_CASE("scratch memory is each worker's own and grows") {
    ThreadPool pool(2);
    float* small = pool.scratch(0, 10);
    CHECK(pool.scratch(1, 10) != small);
    CHECK(pool.scratch(0, 10) == small);
    float* large = pool.scratch(0, 1 << 20);
    large[(1 << 20) - 1] = 1.0F;
    CHECK(pool.shared_scratch(5) != large);
  }
}

}  // namespace
}  // namespace farmesh::kernels
