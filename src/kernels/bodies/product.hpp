// Matrix products over packed panels.
//
// A register tile is MR rows x NP panels of kLanes outputs. Each accumulator is one output's
// whole sum, taken along the inner dimension in sequence; blocking that dimension parks the
// unfinished sums in y, which changes no bit.
#pragma once

#include "kernels/bodies/elementwise.hpp"
#include "kernels/kernel_table.hpp"

namespace farmesh::kernels {
namespace {

/// How a panel stores its weights: kSteps consecutive inputs of one output in each word.
struct F32Panel {
  using Word = float;
  static constexpr int kSteps = 1;
  FARMESH_SIMD static void unpack(const Word* p, F16 (&w)[kSteps]) { w[0] = load(p); }
};
struct Bf16Panel {
  using Word = std::uint32_t;
  static constexpr int kSteps = 2;
  FARMESH_SIMD static void unpack(const Word* p, F16 (&w)[kSteps]) {
    const U16 pairs = load_pairs(p);
    w[0] = low_bf16(pairs);
    w[1] = high_bf16(pairs);
  }
};

struct TilePlace {
  std::int64_t row, panel;  // first row and panel
  std::int64_t begin, end;  // inner dimension; begin is a multiple of kSteps
};

inline constexpr std::int64_t kPrefetchWords = 32 * kLanes;  // 32 cache lines ahead

template <class Panel, int MR, int NP>
void product_tile(const ProductArgs& a, const TilePlace& at) {
  using Word = typename Panel::Word;
  constexpr int kSteps = Panel::kSteps;
  const std::int64_t panel_words = (a.cols + kSteps - 1) / kSteps * kLanes;
  const Word* w =
      static_cast<const Word*>(a.panels) + at.panel * panel_words + at.begin / kSteps * kLanes;
  const float* x = a.x + at.row * a.x_stride + at.begin;
  float* y = a.y + at.row * a.y_stride + at.panel * kLanes;

  std::int64_t lanes[NP];
  F16 acc[MR][NP];
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
    const std::int64_t left = a.outs - (at.panel + p) * kLanes;
    lanes[p] = left < kLanes ? left : kLanes;
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      acc[r][p] = at.begin == 0 ? zero() : load_lanes(y + r * a.y_stride + p * kLanes, lanes[p]);
    }
  }

  const std::int64_t words = (at.end - at.begin) / kSteps;
  for (std::int64_t i = 0; i < words; ++i) {
    F16 weights[NP][kSteps];
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) {
      const Word* word = w + p * panel_words + i * kLanes;
      Panel::unpack(word, weights[p]);
      if constexpr (MR <= kTileRows / 2) prefetch(word + kPrefetchWords);
    }
#pragma GCC unroll 16
    for (int s = 0; s < kSteps; ++s) {
#pragma GCC unroll 16
      for (int r = 0; r < MR; ++r) {
        const F16 input = broadcast(x[r * a.x_stride + i * kSteps + s]);
#pragma GCC unroll 16
        for (int p = 0; p < NP; ++p) acc[r][p] = fma(weights[p][s], input, acc[r][p]);
      }
    }
  }
  if ((at.end - at.begin) % kSteps != 0) {  // an odd inner dimension: the last word's first half
    const std::int64_t last = at.end - at.begin - 1;
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) {
      F16 weights[kSteps];
      Panel::unpack(w + p * panel_words + words * kLanes, weights);
#pragma GCC unroll 16
      for (int r = 0; r < MR; ++r) {
        acc[r][p] = fma(weights[0], broadcast(x[r * a.x_stride + last]), acc[r][p]);
      }
    }
  }

  const bool finished = at.end == a.cols;
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
    const bool biased = finished && a.bias != nullptr;
    const F16 bias = biased ? load(a.bias + (at.panel + p) * kLanes) : zero();
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const F16 sum = biased ? add(acc[r][p], bias) : acc[r][p];
      store_lanes(y + r * a.y_stride + p * kLanes, sum, lanes[p]);
    }
  }
}

using TileFunction = void (*)(const ProductArgs&, const TilePlace&);

/// tiles[MR - 1] for MR rows.
template <class Panel, int NP>
struct Tiles {
  TileFunction by_rows[kTileRows];
  constexpr Tiles() : by_rows{} { fill<kTileRows>(); }
  template <int MR>
  constexpr void fill() {
    if constexpr (MR > 0) {
      by_rows[MR - 1] = &product_tile<Panel, MR, NP>;
      fill<MR - 1>();
    }
  }
};

/// One row has too few accumulators to hide the latency of a multiply-add: more panels at once.
inline constexpr int kRowPanels = 4;

template <class Panel>
void tile_row_group(const ProductArgs& a, TilePlace at, std::int64_t rows, std::int64_t end) {
  static constexpr Tiles<Panel, kTilePanels> wide;
  static constexpr Tiles<Panel, 1> narrow;
  if (rows == 1) {
    for (; at.panel + kRowPanels <= end; at.panel += kRowPanels) {
      product_tile<Panel, 1, kRowPanels>(a, at);
    }
  }
  for (; at.panel + kTilePanels <= end; at.panel += kTilePanels) wide.by_rows[rows - 1](a, at);
  for (; at.panel < end; ++at.panel) narrow.by_rows[rows - 1](a, at);
}

/// Inner steps per block, so that a group of rows and a few panels stay in the second cache.
inline constexpr std::int64_t kInnerBlock = 2048;

template <class Panel>
void product(const ProductArgs& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t groups = (a.rows + kTileRows - 1) / kTileRows;
  const std::int64_t block = groups > 1 ? kInnerBlock : a.cols;
  for (std::int64_t inner = 0; inner < a.cols; inner += block) {
    const std::int64_t inner_end = inner + block < a.cols ? inner + block : a.cols;
    std::int64_t row = 0;
    for (std::int64_t group = 0; group < groups; ++group) {
      // As even as can be: 13 rows are 7 + 6, not 12 + 1.
      const std::int64_t rows = (a.rows - row + groups - group - 1) / (groups - group);
      tile_row_group<Panel>(a, {row, begin, inner, inner_end}, rows, end);
      row += rows;
    }
  }
}

}  // namespace
}  // namespace farmesh::kernels
