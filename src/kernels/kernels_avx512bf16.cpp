#define FARMESH_SIMD_HEADER "kernels/bodies/simd_avx512.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable kAvx512Bf16Table;
constinit const KernelTable kAvx512Bf16Table = make_table(Isa::avx512bf16);

bool bf16_dots_add_in_order() noexcept;

/// Whether this CPU's dot adds the second product of a pair, then the first, each with one rounding
/// and subnormal numbers as zeros: what Intel's and AMD's do, though no manual has all of it.
bool bf16_dots_add_in_order() noexcept {
  constexpr std::uint32_t kOne = 0x3f80;
  constexpr std::uint32_t kSmall = 0x3380;  // 2^-24: half of the last place of 1
  constexpr std::uint32_t kTiny = 0x0040;   // a subnormal number
  constexpr std::uint32_t kRoot = 0x1f80;   // 2^-64, whose square is subnormal
  struct Case {
    std::uint32_t weights, inputs;  // low half: the first of the pair
    float sum, expected;
  };
  static constexpr Case kCases[] = {
      // 1 + 2^-24 is 1 again, and + 2^-24 once more: added to each other first they would count.
      {kSmall << 16 | kSmall, kOne << 16 | kOne, 1.0F, 1.0F},
      // The sum of the second product is rounded before the first takes the large part away.
      {kSmall << 16 | 0xbf80, kOne << 16 | kOne, 1.0F, 0.0F},
      {0xbf80U << 16 | kSmall, kOne << 16 | kOne, 1.0F, 0x1p-24F},
      {kTiny << 16 | kTiny, 0x7f00U << 16 | 0x7f00U, 0.0F, 0.0F},
      {kRoot << 16 | kRoot, kRoot << 16 | kRoot, 0.0F, 0.0F},
      {kOne << 16 | kOne, 0, 0x1p-130F, 0.0F},
  };
  for (const Case& c : kCases) {
    const auto words = [](std::uint32_t word) {
      return (__m512bh)_mm512_set1_epi32(static_cast<int>(word));
    };
    const __m512 sum = _mm512_dpbf16_ps(_mm512_set1_ps(c.sum), words(c.weights), words(c.inputs));
    if (_mm512_cvtss_f32(sum) != c.expected) return false;
  }
  return true;
}

}  // namespace farmesh::kernels
