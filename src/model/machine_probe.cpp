#include "model/machine_probe.hpp"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include <sched.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace farmesh::model {
namespace {

constexpr std::size_t kBytes = 1ULL << 30;
constexpr std::size_t kHugePage = 2ULL << 20;
constexpr std::uint64_t kRepeats = 20'000;   // between two looks at the clock
constexpr double kArithmeticSeconds = 0.05;  // longer than it takes threads to settle

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Keeps the calling thread on one of the cores that the process may use: a probe is too short
/// for the system to spread its threads.
void stay_on_core([[maybe_unused]] int number) {
#ifdef __linux__
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) == 0) return;
  number %= CPU_COUNT(&allowed);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &allowed) || number-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ::sched_setaffinity(0, sizeof one, &one);  // advice, so not checked
    return;
  }
#endif
}

/// work(i) on threads i, all at once: the sum of what they did a second, each by its own clock.
double rate_of_threads(int threads, const std::function<double(int)>& work) {
  std::barrier begin(threads);
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      stay_on_core(i);
      begin.arrive_and_wait();
      const Clock::time_point began = Clock::now();
      const double done = work(i);
      rates[static_cast<std::size_t>(i)] = done / seconds_since(began);
    });
  }
  for (std::thread& worker : workers) worker.join();
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

#if defined(__x86_64__)

// Sixteen sums hide the latency of four cycles on two units, and leave registers for the factors.
__attribute__((target("avx512f"))) float multiply_add_512(std::uint64_t repeats) {
  __m512 sums[16];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(1.0F);
  __m512 b = _mm512_set1_ps(1e-3F);
  for (std::uint64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));  // nothing may be known of them
#pragma GCC unroll 16
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(a, b, sum);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2,fma"))) float multiply_add_256(std::uint64_t repeats) {
  __m256 sums[12];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  __m256 a = _mm256_set1_ps(1.0F);
  __m256 b = _mm256_set1_ps(1e-3F);
  for (std::uint64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 16
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(a, b, sum);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f,avx512vnni"))) int dot_bytes_512(std::uint64_t repeats) {
  __m512i sums[16];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(1);
  __m512i b = _mm512_set1_epi8(1);
  for (std::uint64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return _mm512_cvtsi512_si32(sums[0]);
}

__attribute__((target("avx512f,avx512bf16"))) float dot_bf16_512(std::uint64_t repeats) {
  __m512 sums[16];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  __m512i a = _mm512_set1_epi16(0x3f80);
  __m512i b = _mm512_set1_epi16(0x3a83);
  for (std::uint64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

#endif

using Line = std::uint64_t __attribute__((vector_size(64)));

/// For machines of other kinds: what the compiler makes of it.
[[maybe_unused]] float multiply_add_plain(std::uint64_t repeats) {
  using Floats = float __attribute__((vector_size(16)));
  Floats sums[16] = {};
  Floats a = Floats{} + 1.0F;
  Floats b = Floats{} + 1e-3F;
  for (std::uint64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+m"(a), "+m"(b));
    const Floats x = a;
    const Floats y = b;
    for (Floats& sum : sums) sum += x * y;
  }
  for (int i = 1; i < 16; ++i) sums[0] += sums[i];
  return sums[0][0];
}

/// Operations a second of body(repeats) on every thread, `each` of them a repeat.
template <class Body>
double rate_of(int threads, double each, Body body) {
  std::atomic<std::uint64_t> sink{0};  // so that nothing can be left out
  return rate_of_threads(threads, [&](int) {
    const Clock::time_point began = Clock::now();
    double done = 0.0;
    while (seconds_since(began) < kArithmeticSeconds) {
      sink += static_cast<std::uint64_t>(body(kRepeats));
      done += each * static_cast<double>(kRepeats);
    }
    return done;
  });
}

}  // namespace

BandwidthProbe::BandwidthProbe(int threads) : threads_(std::max(threads, 1)) {
  memory_ = static_cast<std::byte*>(std::aligned_alloc(kHugePage, kBytes));
  if (memory_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  ::madvise(memory_, kBytes, MADV_HUGEPAGE);  // advice, so not checked
#endif
  std::memset(memory_, 1, kBytes);
}

BandwidthProbe::~BandwidthProbe() { std::free(memory_); }

double BandwidthProbe::measure() {
  return rate_of_threads(threads_, [this](int part) {
    read(part);
    return static_cast<double>(kBytes) / threads_;
  });
}

void BandwidthProbe::read(int part) {
  constexpr std::uint64_t kStreams = 4;
  constexpr std::uint64_t kAhead = 32;  // lines
  const std::uint64_t lines =
      kBytes / sizeof(Line) / kStreams / static_cast<std::uint64_t>(threads_);
  const auto* at =
      reinterpret_cast<const Line*>(memory_) + lines * kStreams * static_cast<std::uint64_t>(part);
  Line sums[kStreams] = {};
  for (std::uint64_t i = 0; i < lines; ++i) {
    for (std::uint64_t s = 0; s < kStreams; ++s) {
      __builtin_prefetch(at + s * lines + i + kAhead);
      sums[s] += at[s * lines + i];
    }
  }
  const Line all = sums[0] + sums[1] + sums[2] + sums[3];
  sink_ += all[0] ^ all[7];
}

ArithmeticLimit ArithmeticRates::limit_of(Precision precision) const noexcept {
  const bool narrow = precision == Precision::int8 || precision == Precision::int4;
  if (narrow && i8 > 0.0) return {"int8 dots", i8};
  if (precision == Precision::bf16 && bf16 > 0.0) return {"bf16 dots", bf16};
  return {"f32 multiply-adds", f32};
}

ArithmeticRates measure_arithmetic(int threads) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  ArithmeticRates rates;
  if (__builtin_cpu_supports("avx512f")) {
    rates.f32 = rate_of(threads, 16 * 16 * 2, multiply_add_512);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    rates.f32 = rate_of(threads, 12 * 8 * 2, multiply_add_256);
  } else {
    rates.f32 = rate_of(threads, 16 * 4 * 2, multiply_add_plain);
  }
  if (__builtin_cpu_supports("avx512bf16")) {
    rates.bf16 = rate_of(threads, 16 * 32 * 2, dot_bf16_512);
  }
  if (__builtin_cpu_supports("avx512vnni")) {
    rates.i8 = rate_of(threads, 16 * 64 * 2, dot_bytes_512);
  }
  return rates;
#else
  return {rate_of(threads, 16 * 4 * 2, multiply_add_plain), 0.0, 0.0};
#endif
}

}  // namespace farmesh::model
