#include "kernels/thread_pool.hpp"

#include <algorithm>
#include <chrono>

#include <pthread.h>

#include "base/assert.hpp"
#include "base/thread.hpp"

namespace farmesh::kernels {
namespace {

// Longer than the gap between two loops of a pass, far shorter than a token.
constexpr std::chrono::microseconds kSpin{60};

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Polls `ready` for at most kSpin; true as soon as it holds.
template <class Ready>
bool spin_until(const Ready& ready) {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  return false;
}

float* grown(AlignedBuffer& buffer, std::int64_t floats) {
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  if (buffer.size() < bytes) buffer = AlignedBuffer(bytes + bytes / 2);
  return reinterpret_cast<float*>(buffer.data());
}

}  // namespace

ThreadPool::ThreadPool(int threads, std::optional<int> first_core)
    : ranges_(static_cast<std::size_t>(threads)), scratch_(static_cast<std::size_t>(threads)) {
  FARMESH_ASSERT(threads >= 1 && first_core.value_or(0) >= 0);
  if (first_core) caller_core_ = process_core(*first_core);
  for (int worker = 1; worker < threads; ++worker) {
    // Asked here: the caller may be the process's first thread, and be bound before a worker runs.
    const std::optional<int> core = first_core ? process_core(*first_core + worker) : std::nullopt;
    workers_.emplace_back([this, worker, core] {
#ifdef __linux__
      pthread_setname_np(pthread_self(), "fm-kernel");
#endif
      if (core) pin_this_thread_to(*core);
      work(worker);
    });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

ThreadPool::Awake::Awake(ThreadPool& pool) noexcept : pool_(pool) {
  pool_.pin_caller();
  pool_.awake_.store(true);
  // Sleepers wake while the caller prepares its first loop; they find none, and spin for it.
  pool_.epoch_.fetch_add(1, std::memory_order_release);
  pool_.epoch_.notify_all();
}
ThreadPool::Awake::~Awake() { pool_.awake_.store(false); }

void ThreadPool::pin_caller() noexcept {
  if (!caller_core_ || bound_caller_ == std::this_thread::get_id()) return;
  pin_this_thread_to(*caller_core_);
  bound_caller_ = std::this_thread::get_id();
}

float* ThreadPool::scratch(int worker, std::int64_t floats) {
  return grown(scratch_[static_cast<std::size_t>(worker)], floats);
}
float* ThreadPool::shared_scratch(std::int64_t floats) { return grown(shared_scratch_, floats); }

void ThreadPool::run(std::int64_t items, std::int64_t grain, Call call, const void* context) {
  if (items <= 0) return;
  if (workers_.empty() || items <= grain) {
    call(context, 0, items, 0);
    return;
  }
  const auto pieces = static_cast<std::uint32_t>((items + grain - 1) / grain);
  loop_.call.store(call, std::memory_order_relaxed);
  loop_.context.store(context, std::memory_order_relaxed);
  loop_.items.store(items, std::memory_order_relaxed);
  loop_.grain.store(grain, std::memory_order_relaxed);
  loop_.pieces.store(pieces, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  ++loop_number_;
  for (std::uint32_t range = 0; range < ranges_.size(); ++range) {
    const std::uint64_t count = range_begin(pieces, range + 1) - range_begin(pieces, range);
    ranges_[range].unclaimed.store(loop_number_ << 32 | count, std::memory_order_release);
  }
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();

  drain(0);
  // What is left are pieces that a worker holds; a sleeping worker holds none.
  const auto done = [&] { return finished_.load(std::memory_order_acquire) == pieces; };
  while (!spin_until(done)) {
    const std::uint32_t seen = finished_.load(std::memory_order_acquire);
    if (seen != pieces) finished_.wait(seen, std::memory_order_acquire);
  }
}

/// Pieces are cut into one range for each thread: what it reads then lies in sequence.
std::uint32_t ThreadPool::range_begin(std::uint32_t pieces, std::uint32_t range) const noexcept {
  return static_cast<std::uint32_t>(std::uint64_t{pieces} * range / ranges_.size());
}

/// Claims and runs the pieces of this worker's range, then what is left of the others'.
void ThreadPool::drain(int worker) {
  const auto threads = static_cast<std::uint32_t>(ranges_.size());
  for (std::uint32_t i = 0; i < threads; ++i) {
    drain_range((static_cast<std::uint32_t>(worker) + i) % threads, worker);
  }
}

void ThreadPool::drain_range(std::uint32_t range, int worker) {
  std::atomic<std::uint64_t>& unclaimed = ranges_[range].unclaimed;
  std::uint64_t at = unclaimed.load(std::memory_order_acquire);
  while (static_cast<std::uint32_t>(at) != 0) {
    const Call call = loop_.call.load(std::memory_order_relaxed);
    const void* context = loop_.context.load(std::memory_order_relaxed);
    const std::int64_t items = loop_.items.load(std::memory_order_relaxed);
    const std::int64_t grain = loop_.grain.load(std::memory_order_relaxed);
    const std::uint32_t pieces = loop_.pieces.load(std::memory_order_relaxed);
    if (!unclaimed.compare_exchange_weak(at, at - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
      continue;
    }
    const std::uint32_t piece = range_begin(pieces, range + 1) - static_cast<std::uint32_t>(at);
    const std::int64_t begin = piece * grain;
    call(context, begin, std::min(begin + grain, items), worker);
    if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == pieces) finished_.notify_one();
    at = unclaimed.load(std::memory_order_acquire);
  }
}

void ThreadPool::work(int worker) {
  std::uint32_t seen = 0;
  for (;;) {
    const auto moved = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    const auto moved_or_idle = [&] { return moved() || !awake_.load(std::memory_order_relaxed); };
    if (!spin_until(moved_or_idle) || !moved()) epoch_.wait(seen, std::memory_order_acquire);
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    drain(worker);
  }
}

}  // namespace farmesh::kernels
