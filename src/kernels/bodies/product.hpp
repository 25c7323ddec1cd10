// Matrix products over packed panels.
//
// Rows go in groups of at most kTileRows, each packed input after input, so that a tile reads its
// rows as one stream. A register tile is one group of MR rows x NP panels of kLanes outputs. Each
// accumulator is one output's whole sum, taken along the inner dimension in sequence; blocking that
// dimension parks the unfinished sums in y, which changes no bit.
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

/// As even as can be: 13 rows are groups of 7 and 6, not of 12 and 1.
template <int kMost>
struct RowGroups {
  std::int64_t rows, count;

  FARMESH_SIMD explicit RowGroups(std::int64_t all) : rows(all), count((all + kMost - 1) / kMost) {}
  FARMESH_SIMD std::int64_t begin(std::int64_t group) const {
    const std::int64_t longer = rows % count;
    return group * (rows / count) + (group < longer ? group : longer);
  }
  FARMESH_SIMD std::int64_t size(std::int64_t group) const {
    return begin(group + 1) - begin(group);
  }
};

void pack_rows(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
               std::int64_t begin, std::int64_t end, float* packed) {
  const RowGroups<kTileRows> groups(rows);
  for (std::int64_t group = begin; group < end; ++group) {
    const std::int64_t size = groups.size(group);
    const float* from = x + groups.begin(group) * stride;
    float* to = packed + groups.begin(group) * cols;
    for (std::int64_t k = 0; k < cols; ++k) {
      for (std::int64_t r = 0; r < size; ++r) *to++ = from[r * stride + k];
    }
  }
}

struct TilePlace {
  std::int64_t row, panel;  // first row and panel
  std::int64_t begin, end;  // inner dimension in a kernel's own units
  std::int64_t ahead;       // how far off, along each panel, the weights are that it fetches
  // The same block of weights serves `passes` groups of rows, this being number `pass`. Each
  // fetches its share of what comes next, so that memory works while all of them compute.
  std::int64_t pass = 0, passes = 1;
};

/// Outputs that exist in panel `p` of a tile.
FARMESH_SIMD std::int64_t lanes_of(const ProductArgs& a, const TilePlace& at, int p) {
  const std::int64_t left = a.outs - (at.panel + p) * kLanes;
  return left < kLanes ? left : kLanes;
}

/// The sums that the next group of rows has parked, which lie a row of y apart: no cache fetches
/// them by itself.
template <int MR, int NP>
FARMESH_SIMD void fetch_parked(const ProductArgs& a, const TilePlace& at, const float* y) {
  if (at.begin == 0 || at.pass + 1 == at.passes) return;
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) prefetch(y + (MR + r) * a.y_stride + p * kLanes);
  }
}

/// What a tile that shares its block of weights reads a little later, weights and rows, from the
/// second cache into the first.
template <class Panel, int MR, int NP>
FARMESH_SIMD void fetch_near(const typename Panel::Word* word, std::int64_t panel_words,
                             const float* x) {
  constexpr int kWords = 12;   // ahead
  constexpr int kFloats = 16;  // of a cache line
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) prefetch(word + kWords * kLanes + p * panel_words);
  const float* soon = x + kWords * Panel::kSteps * MR;
#pragma GCC unroll 16
  for (int i = 0; i < Panel::kSteps * MR; i += kFloats) prefetch(soon + i);
}

/// One word of each panel: kCount of its steps, for all rows. x: [kCount][MR].
template <class Panel, int MR, int NP, int kCount>
FARMESH_SIMD void product_step(const typename Panel::Word* word, std::int64_t panel_words,
                               const float* x, F16 (&acc)[MR][NP]) {
  F16 weights[NP][Panel::kSteps];
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) Panel::unpack(word + p * panel_words, weights[p]);
#pragma GCC unroll 16
  for (int s = 0; s < kCount; ++s) {
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const F16 input = broadcast(x[s * MR + r]);
#pragma GCC unroll 16
      for (int p = 0; p < NP; ++p) acc[r][p] = fma(weights[p][s], input, acc[r][p]);
    }
  }
}

template <class Panel, int MR, int NP>
void product_tile(const ProductArgs& a, const TilePlace& at) {
  using Word = typename Panel::Word;
  constexpr int kSteps = Panel::kSteps;
  const std::int64_t panel_words = (a.cols + kSteps - 1) / kSteps * kLanes;
  const Word* w =
      static_cast<const Word*>(a.panels) + at.panel * panel_words + at.begin / kSteps * kLanes;
  const float* x = static_cast<const float*>(a.x) + at.row * a.cols + at.begin * MR;
  float* y = a.y + at.row * a.y_stride + at.panel * kLanes;

  F16 acc[MR][NP];
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const float* parked = y + r * a.y_stride + p * kLanes;
      acc[r][p] = at.begin == 0 ? zero() : load_lanes(parked, lanes_of(a, at, p));
    }
  }

  fetch_parked<MR, NP>(a, at, y);
  const std::int64_t words = (at.end - at.begin) / kSteps;
  // What follows the end of these panels is the start of the next ones, behind all NP of them.
  const std::int64_t left = panel_words / kLanes - at.begin / kSteps - at.ahead;
  std::int64_t wait = at.pass;
  for (std::int64_t i = 0; i < words; ++i) {
    const Word* word = w + i * kLanes;
    if (wait-- == 0) {
      const Word* soon = word + at.ahead * kLanes + (i < left ? 0 : (NP - 1) * panel_words);
#pragma GCC unroll 16
      for (int p = 0; p < NP; ++p) prefetch(soon + p * panel_words);
      wait = at.passes - 1;
    }
    if (at.passes > 1) fetch_near<Panel, MR, NP>(word, panel_words, x + i * kSteps * MR);
    product_step<Panel, MR, NP, kSteps>(word, panel_words, x + i * kSteps * MR, acc);
  }
  if ((at.end - at.begin) % kSteps != 0) {  // an odd inner dimension: the last word's first half
    product_step<Panel, MR, NP, 1>(w + words * kLanes, panel_words, x + words * kSteps * MR, acc);
  }

  const bool biased = at.end == a.cols && a.bias != nullptr;
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

using TileFunction = void (*)(const ProductArgs&, const TilePlace&);

/// What product() needs to know of a tile: its largest sizes, and how far to block.
template <class Panel>
struct ExactKernel {
  static constexpr int kRows = kTileRows;
  static constexpr int kPanels = kTilePanels;
  // One row has too few accumulators to hide the latency of a multiply-add: more panels at once.
  static constexpr int kRowPanels = 4;
  // A block of weights stays in the second cache while all groups of a block of rows pass over it,
  // and so do those rows' inputs.
  static constexpr std::int64_t kInnerBlock = 512;  // inputs; a multiple of kSteps
  static constexpr std::int64_t kGroupBlock = 16;
  static constexpr std::int64_t kAheadBlock = kInnerBlock / Panel::kSteps;  // words
  static constexpr std::int64_t kAheadAlone = 32;  // words, which are cache lines

  FARMESH_SIMD static std::int64_t inner(const ProductArgs& a) { return a.cols; }
  template <int MR, int NP>
  static constexpr TileFunction tile() {
    return &product_tile<Panel, MR, NP>;
  }
};

/// tiles[MR - 1] for MR rows.
template <class Kernel, int NP>
struct Tiles {
  TileFunction by_rows[Kernel::kRows];
  constexpr Tiles() : by_rows{} { fill<Kernel::kRows>(); }
  template <int MR>
  constexpr void fill() {
    if constexpr (MR > 0) {
      by_rows[MR - 1] = Kernel::template tile<MR, NP>();
      fill<MR - 1>();
    }
  }
};

template <class Kernel>
void tile_row_group(const ProductArgs& a, TilePlace at, std::int64_t rows, std::int64_t panels) {
  static constexpr Tiles<Kernel, Kernel::kPanels> wide;
  static constexpr Tiles<Kernel, 1> narrow;
  (panels == Kernel::kPanels ? wide.by_rows : narrow.by_rows)[rows - 1](a, at);
}

template <class Kernel>
void product(const ProductArgs& a, std::int64_t begin, std::int64_t end) {
  const RowGroups<Kernel::kRows> groups(a.rows);
  const std::int64_t inner_size = Kernel::inner(a);
  std::int64_t panel = begin;
  if (a.rows == 1) {
    for (; panel + Kernel::kRowPanels <= end; panel += Kernel::kRowPanels) {
      Kernel::template tile<1, Kernel::kRowPanels>()(
          a, {0, panel, 0, inner_size, Kernel::kAheadAlone});
    }
  }
  const std::int64_t block = groups.count > 1 ? Kernel::kInnerBlock : inner_size;
  const std::int64_t ahead = groups.count > 1 ? Kernel::kAheadBlock : Kernel::kAheadAlone;
  for (std::int64_t first = 0; first < groups.count; first += Kernel::kGroupBlock) {
    const std::int64_t last =
        first + Kernel::kGroupBlock < groups.count ? first + Kernel::kGroupBlock : groups.count;
    for (std::int64_t inner = 0; inner < inner_size; inner += block) {
      const std::int64_t inner_end = inner + block < inner_size ? inner + block : inner_size;
      for (std::int64_t p = panel; p < end; p += Kernel::kPanels) {
        const std::int64_t panels = p + Kernel::kPanels <= end ? Kernel::kPanels : 1;
        for (std::int64_t group = first; group < last; ++group) {
          tile_row_group<Kernel>(
              a, {groups.begin(group), p, inner, inner_end, ahead, group - first, last - first},
              groups.size(group), panels);
        }
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::kernels
