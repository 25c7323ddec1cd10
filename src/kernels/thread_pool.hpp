// The compute threads of one engine: the caller and `threads - 1` workers.
//
// Every thread has a range of a loop's pieces, and helps the others when its own is done: a core
// that another process took away delays only the piece it holds. Results cannot depend on who
// computed what. Workers sleep when the engine is idle; between two parallel loops of one forward
// pass (an Awake scope) they spin briefly, because waking a thread costs more than a small layer.
//
// Threading: one thread at a time uses a pool; bodies run on all of them and must not throw.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/bytes.hpp"

namespace farmesh::kernels {

class ThreadPool {
 public:
  /// `threads` counts the caller and is at least 1. With `first_core` each is bound to one core:
  /// worker i to number first_core + i, round again at the last, of those that this process may
  /// use. The caller, worker 0, is bound when it first is Awake, and stays so: packing weights on
  /// an application's thread leaves that alone. Where the system refuses, a thread goes on unbound.
  explicit ThreadPool(int threads, std::optional<int> first_core = {});
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// While one lives, workers may spin for the next loop.
  class Awake {
   public:
    explicit Awake(ThreadPool& pool) noexcept;
    Awake(const Awake&) = delete;
    Awake& operator=(const Awake&) = delete;
    ~Awake();

   private:
    ThreadPool& pool_;
  };

  /// Calls body(begin, end, worker) over [0, items) in pieces of `grain`, and returns when all
  /// are done. `worker` is in [0, threads()): no two calls at once share it.
  template <class Body>
  void for_each(std::int64_t items, std::int64_t grain, const Body& body) {
    const auto call = [](const void* context, std::int64_t begin, std::int64_t end, int worker) {
      (*static_cast<const Body*>(context))(begin, end, worker);
    };
    run(items, grain, call, &body);
  }

  /// Memory that only `worker` uses during a body; contents are lost when it grows.
  float* scratch(int worker, std::int64_t floats);
  /// Memory that all share; contents are lost when it grows. Not inside a body.
  float* shared_scratch(std::int64_t floats);

 private:
  using Call = void (*)(const void* context, std::int64_t begin, std::int64_t end, int worker);

  void run(std::int64_t items, std::int64_t grain, Call call, const void* context);
  void work(int worker);
  void pin_caller() noexcept;
  std::uint32_t range_begin(std::uint32_t pieces, std::uint32_t range) const noexcept;
  void drain(int worker);
  void drain_range(std::uint32_t range, int worker);

  // One loop. Written by the caller while no piece is claimable. A worker reads it between
  // seeing unclaimed pieces in a range and claiming one of them, so what it read is that loop's.
  struct Loop {
    std::atomic<Call> call{nullptr};
    std::atomic<const void*> context{nullptr};
    std::atomic<std::int64_t> items{0};
    std::atomic<std::int64_t> grain{1};
    std::atomic<std::uint32_t> pieces{0};
  };

  struct alignas(64) Range {
    std::atomic<std::uint64_t> unclaimed{0};  // number of the loop << 32 | pieces not yet claimed
  };

  Loop loop_;
  std::uint64_t loop_number_ = 0;                       // the caller's
  std::vector<Range> ranges_;                           // by worker
  alignas(64) std::atomic<std::uint32_t> finished_{0};  // pieces of this epoch
  alignas(64) std::atomic<std::uint32_t> epoch_{0};     // what sleepers watch
  std::atomic<bool> awake_{false};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
  std::optional<int> caller_core_;      // nothing: unbound
  std::thread::id bound_caller_;        // the last
  std::vector<AlignedBuffer> scratch_;  // by worker
  AlignedBuffer shared_scratch_;
};

}  // namespace farmesh::kernels
