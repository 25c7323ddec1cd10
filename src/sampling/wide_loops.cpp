#include "sampling/wide_loops.hpp"

#include <algorithm>
#include <limits>

#include "sampling/fixed_exp.hpp"

namespace farmesh::sampling {
namespace {

constexpr std::size_t kLanes = 16;  // partial sums and maxima, folded in order at the end

[[gnu::always_inline]] inline void exp_weights_body(const float* scores, std::size_t count,
                                                    double greatest, double temperature,
                                                    double* weights) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    weights[i] = fixed_exp((double{scores[i]} - greatest) / temperature);
  }
}

[[gnu::always_inline]] inline double exp_sum_body(const float* scores, std::size_t count,
                                                  double greatest) noexcept {
  double lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += fixed_exp(double{scores[i + lane]} - greatest);
    }
  }
  for (; i < count; ++i) lanes[i % kLanes] += fixed_exp(double{scores[i]} - greatest);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

[[gnu::always_inline]] inline float greatest_body(const float* scores, std::size_t count) noexcept {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  constexpr float kLargest = std::numeric_limits<float>::max();
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, kLowest);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      // Comparisons with NaN are false.
      const float score = scores[i + lane] <= kLargest ? scores[i + lane] : kLowest;
      lanes[lane] = score > lanes[lane] ? score : lanes[lane];
    }
  }
  float greatest = kLowest;
  for (; i < count; ++i) {
    if (scores[i] <= kLargest && scores[i] > greatest) greatest = scores[i];
  }
  for (const float lane : lanes) greatest = std::max(greatest, lane);
  return greatest;
}

struct Loops {
  void (*exp_weights)(const float*, std::size_t, double, double, double*) noexcept;
  double (*exp_sum)(const float*, std::size_t, double) noexcept;
  float (*greatest)(const float*, std::size_t) noexcept;
};

// One set of functions for each instruction set, from the bodies above.
#define FARMESH_LOOPS(SUFFIX, TARGET)                                                       \
  TARGET void exp_weights_##SUFFIX(const float* scores, std::size_t count, double greatest, \
                                   double temperature, double* weights) noexcept {          \
    exp_weights_body(scores, count, greatest, temperature, weights);                        \
  }                                                                                         \
  TARGET double exp_sum_##SUFFIX(const float* scores, std::size_t count,                    \
                                 double greatest) noexcept {                                \
    return exp_sum_body(scores, count, greatest);                                           \
  }                                                                                         \
  TARGET float greatest_##SUFFIX(const float* scores, std::size_t count) noexcept {         \
    return greatest_body(scores, count);                                                    \
  }                                                                                         \
  constexpr Loops k_##SUFFIX{exp_weights_##SUFFIX, exp_sum_##SUFFIX, greatest_##SUFFIX};

FARMESH_LOOPS(portable, )
#if defined(__x86_64__)
FARMESH_LOOPS(avx2, [[gnu::target("avx2")]])
FARMESH_LOOPS(avx512, [[gnu::target("avx512f,avx512dq,prefer-vector-width=512")]])
#endif
#undef FARMESH_LOOPS

const Loops& loops() noexcept {
  static const Loops& chosen = []() -> const Loops& {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return k_avx512;
    if (__builtin_cpu_supports("avx2")) return k_avx2;
#endif
    return k_portable;
  }();
  return chosen;
}

}  // namespace

void exp_weights(std::span<const float> scores, double greatest, double temperature,
                 double* weights) noexcept {
  loops().exp_weights(scores.data(), scores.size(), greatest, temperature, weights);
}

double exp_sum(std::span<const float> scores, double greatest) noexcept {
  return loops().exp_sum(scores.data(), scores.size(), greatest);
}

float greatest_finite(std::span<const float> scores) noexcept {
  return loops().greatest(scores.data(), scores.size());
}

}  // namespace farmesh::sampling
