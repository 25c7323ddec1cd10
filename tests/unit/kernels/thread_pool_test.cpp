#include "kernels/thread_pool.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh::kernels {
namespace {

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
