// Products over quantised panels.
//
// Within a group of kGroup inputs the sum is taken in integers, exactly, so in any order; each
// group's sum times both scales is then added to the output's f32 in the order of the groups.
// Hence the bits depend on the weights and the row alone, as those of the other products do.
#pragma once

#include "kernels/bodies/product.hpp"

namespace farmesh::kernels {
namespace {

/// A pair of groups in a panel: 2 x kLanes scales in bf16, then the weights of both groups, in
/// lines of four (int8) or twice four (int4) inputs of each output.
inline constexpr std::int64_t kScaleBytes = 2 * kLanes * 2;
inline constexpr int kGroupSteps = kGroup / 4;

struct Int8Panel {
  static constexpr int kStepsPerLine = 1;
  FARMESH_SIMD static I16 begin(std::int32_t minus_inputs) { return begin_bytes(minus_inputs); }
  FARMESH_SIMD static void unpack(const std::uint8_t* line, Bytes (&w)[1]) {
    w[0] = load_bytes(line);
  }
  using Weights = Bytes;
};
struct Int4Panel {
  static constexpr int kStepsPerLine = 2;
  FARMESH_SIMD static I16 begin(std::int32_t minus_inputs) { return begin_nibbles(minus_inputs); }
  FARMESH_SIMD static void unpack(const std::uint8_t* line, Nibbles (&w)[2]) {
    w[0] = low_nibbles(line);
    w[1] = high_nibbles(line);
  }
  using Weights = Nibbles;
};

inline constexpr std::int64_t kLineBytes = 4 * kLanes;
template <class Panel>
inline constexpr std::int64_t kGroupBytes = kGroupSteps / Panel::kStepsPerLine* kLineBytes;
template <class Panel>
inline constexpr std::int64_t kPairBytes = kScaleBytes + 2 * kGroupBytes<Panel>;

/// Adds one group to every sum, and fetches what lies `soon` bytes behind its weights. `weights`
/// and `scales` are of the first panel; x: [kGroupWords][MR].
template <class Panel, int MR, int NP>
FARMESH_SIMD void add_group(const std::uint8_t* weights, const std::uint8_t* scales,
                            std::int64_t panel_bytes, std::int64_t soon, const std::uint32_t* x,
                            F16 (&acc)[MR][NP]) {
  I16 sum[MR][NP];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
    const I16 begin = Panel::begin(static_cast<std::int32_t>(x[(kGroupSteps + 1) * MR + r]));
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) sum[r][p] = begin;
  }
#pragma GCC unroll 16
  for (int step = 0; step < kGroupSteps; step += Panel::kStepsPerLine) {
    typename Panel::Weights w[NP][Panel::kStepsPerLine];
    const std::uint8_t* line = weights + step / Panel::kStepsPerLine * kLineBytes;
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) {
      Panel::unpack(line + p * panel_bytes, w[p]);
      prefetch(line + p * panel_bytes + soon);
    }
#pragma GCC unroll 16
    for (int s = 0; s < Panel::kStepsPerLine; ++s) {
#pragma GCC unroll 16
      for (int r = 0; r < MR; ++r) {
        const std::uint32_t inputs = x[(step + s) * MR + r];
#pragma GCC unroll 16
        for (int p = 0; p < NP; ++p) sum[r][p] = dot(w[p][s], inputs, sum[r][p]);
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
    const F16 scale = load(reinterpret_cast<const std::uint16_t*>(scales + p * panel_bytes));
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const F16 both = mul(scale, broadcast(__builtin_bit_cast(float, x[kGroupSteps * MR + r])));
      acc[r][p] = fma(to_float(sum[r][p]), both, acc[r][p]);
    }
  }
}

/// The units of `at` along the inner dimension are pairs of groups.
template <class Panel, int MR, int NP>
void quant_tile(const ProductArgs& a, const TilePlace& at) {
  constexpr std::int64_t kPair = kPairBytes<Panel>;
  const std::int64_t pairs = groups_of(a.cols) / 2;
  const std::int64_t panel_bytes = pairs * kPair;
  const std::uint8_t* w =
      static_cast<const std::uint8_t*>(a.panels) + at.panel * panel_bytes + at.begin * kPair;
  const std::uint32_t* x =
      static_cast<const std::uint32_t*>(a.x) + (at.row * pairs + at.begin * MR) * 2 * kGroupWords;
  float* y = a.y + at.row * a.y_stride + at.panel * kLanes;

  F16 acc[MR][NP];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) {
      const float* parked = y + r * a.y_stride + p * kLanes;
      acc[r][p] = at.begin == 0 ? zero() : load_lanes(parked, lanes_of(a, at, p));
    }
  }

  // What follows the end of these panels is the start of the next ones, behind all NP of them.
  const std::int64_t left = pairs - at.ahead;
  std::int64_t wait = at.pass;
  for (std::int64_t pair = at.begin; pair < at.end; ++pair) {
    std::int64_t soon = 0;  // this pair itself: nothing
    if (wait-- == 0) {
      soon = at.ahead * kPair + (pair < left ? 0 : (NP - 1) * panel_bytes);
      wait = at.passes - 1;
    }
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) prefetch(w + p * panel_bytes + soon);
    const std::uint8_t* weights = w + kScaleBytes;
    add_group<Panel>(weights, w, panel_bytes, soon, x, acc);
    add_group<Panel>(weights + kGroupBytes<Panel>, w + kScaleBytes / 2, panel_bytes, soon,
                     x + kGroupWords * MR, acc);
    w += kPair;
    x += 2 * kGroupWords * MR;
  }

  const bool biased = at.end == pairs && a.bias != nullptr;
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
    const F16 bias = biased ? load(a.bias + (at.panel + p) * kLanes) : zero();
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const F16 sum = biased ? add(acc[r][p], bias) : acc[r][p];
      store_lanes(y + r * a.y_stride + p * kLanes, sum, lanes_of(a, at, p));
    }
  }
}

template <class Panel>
struct QuantKernel {
  static constexpr int kRows = kQuantRows;
  static constexpr int kPanels = kQuantPanels;
  static constexpr int kRowPanels = kQuantRowPanels;
  static constexpr std::int64_t kInnerBlock = 8;  // pairs of groups
  static constexpr std::int64_t kGroupBlock = 32;
  static constexpr std::int64_t kAheadBlock = kInnerBlock;
  static constexpr std::int64_t kAheadAlone = 2 * Panel::kStepsPerLine;

  struct Scope {};
  FARMESH_SIMD static std::int64_t inner(const ProductArgs& a) { return groups_of(a.cols) / 2; }
  template <int MR, int NP>
  static constexpr TileFunction tile() {
    return &quant_tile<Panel, MR, NP>;
  }
};

}  // namespace
}  // namespace farmesh::kernels
