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

/// How a panel stores its weights: a word holds kSteps consecutive inputs of one output. Rows are
/// packed as kInputs words of theirs beside each, and add() adds the i-th of them.
struct F32Panel {
  using Word = float;
  using Input = float;
  using Weights = F16;
  static constexpr int kSteps = 1;
  static constexpr int kInputs = 1;

  struct Scope {};
  FARMESH_SIMD static Weights load(const Word* p) { return kernels::load(p); }
  FARMESH_SIMD static F16 broadcast(Input x) { return kernels::broadcast(x); }
  FARMESH_SIMD static F16 add(Weights w, int, F16 x, F16 sum) { return fma(w, x, sum); }
  FARMESH_SIMD static F16 add_bias(F16 sum, F16 bias) { return kernels::add(sum, bias); }
};
struct Bf16Panel {
  using Word = std::uint32_t;
  static constexpr int kSteps = 2;

  using Scope = WithoutSubnormals;
#ifdef FARMESH_BF16_DOTS
  using Input = std::uint32_t;
  using Weights = U16;
  static constexpr int kInputs = 1;

  FARMESH_SIMD static Weights load(const Word* p) { return load_pairs(p); }
  FARMESH_SIMD static U16 broadcast(Input x) { return broadcast_pair(x); }
  FARMESH_SIMD static F16 add(Weights w, int, U16 x, F16 sum) { return dot_pairs(w, x, sum); }
  FARMESH_SIMD static void write(std::uint32_t pair, Input* to, std::int64_t) { *to = pair; }
#else
  using Input = float;
  struct Weights {
    F16 step[kSteps];
  };
  static constexpr int kInputs = kSteps;

  FARMESH_SIMD static Weights load(const Word* p) {
    const U16 pairs = load_pairs(p);
    return {{high_bf16(pairs), low_bf16(pairs)}};
  }
  FARMESH_SIMD static F16 broadcast(Input x) { return kernels::broadcast(x); }
  FARMESH_SIMD static F16 add(const Weights& w, int i, F16 x, F16 sum) {
    return fma_normal(w.step[i], x, sum);
  }
  FARMESH_SIMD static void write(std::uint32_t pair, Input* to, std::int64_t rows) {
    to[0] = __builtin_bit_cast(float, pair & 0xffff0000U);
    to[rows] = __builtin_bit_cast(float, pair << 16);
  }
#endif
  FARMESH_SIMD static F16 add_bias(F16 sum, F16 bias) { return add_normal(sum, bias); }
};

/// Words of a panel along an inner dimension of `cols`.
template <class Panel>
FARMESH_SIMD std::int64_t words_of(std::int64_t cols) {
  return (cols + Panel::kSteps - 1) / Panel::kSteps;
}

void pack_rows_f32(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
                   void* packed) {
  auto* to = static_cast<float*>(packed);
  for (std::int64_t k = 0; k < cols; ++k) {
    for (std::int64_t r = 0; r < rows; ++r) *to++ = x[r * stride + k];
  }
}

/// load_part() for any n, also none or more than all.
FARMESH_SIMD F16 load_some(const float* p, std::int64_t n) {
  return n <= 0 ? zero() : load_lanes(p, n < kLanes ? n : kLanes);
}

void pack_rows_bf16(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
                    void* packed) {
  using Panel = Bf16Panel;
  constexpr float kSmallestNormal = 0x1p-126F;
  const std::int64_t words = words_of<Panel>(cols);
  auto* to = static_cast<Panel::Input*>(packed);
  for (std::int64_t k = 0; k < cols; k += kLanes) {
    const std::int64_t pairs = words - k / 2 < kLanes / 2 ? words - k / 2 : kLanes / 2;
    for (std::int64_t r = 0; r < rows; ++r) {
      const F16 row = load_some(x + r * stride + k, cols - k);
      const F16 normal = select_less(abs(row), broadcast(kSmallestNormal), zero(), row);
      alignas(64) std::uint32_t pair[kLanes / 2];
      store_bf16_part(reinterpret_cast<std::uint16_t*>(pair), normal, kLanes);
      for (std::int64_t i = 0; i < pairs; ++i) {
        Panel::write(pair[i], to + i * Panel::kInputs * rows + r, rows);
      }
    }
    to += kLanes / 2 * Panel::kInputs * rows;
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
                             const typename Panel::Input* x) {
  constexpr int kWords = 12;   // ahead
  constexpr int kInputs = 16;  // of a cache line
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) prefetch(word + kWords * kLanes + p * panel_words);
  const typename Panel::Input* soon = x + kWords * Panel::kInputs * MR;
#pragma GCC unroll 16
  for (int i = 0; i < Panel::kInputs * MR; i += kInputs) prefetch(soon + i);
}

/// One word of each panel for all rows. x: [kInputs][MR].
template <class Panel, int MR, int NP>
FARMESH_SIMD void product_step(const typename Panel::Word* word, std::int64_t panel_words,
                               const typename Panel::Input* x, F16 (&acc)[MR][NP]) {
  typename Panel::Weights weights[NP];
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) weights[p] = Panel::load(word + p * panel_words);
#pragma GCC unroll 16
  for (int i = 0; i < Panel::kInputs; ++i) {
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const auto input = Panel::broadcast(x[i * MR + r]);
#pragma GCC unroll 16
      for (int p = 0; p < NP; ++p) acc[r][p] = Panel::add(weights[p], i, input, acc[r][p]);
    }
  }
}

/// The units of `at` along the inner dimension are words.
template <class Panel, int MR, int NP>
void product_tile(const ProductArgs& a, const TilePlace& at) {
  using Word = typename Panel::Word;
  using Input = typename Panel::Input;
  constexpr int kInputs = Panel::kInputs;
  const std::int64_t words = words_of<Panel>(a.cols);
  const std::int64_t panel_words = words * kLanes;
  const Word* w = static_cast<const Word*>(a.panels) + at.panel * panel_words + at.begin * kLanes;
  const Input* x = static_cast<const Input*>(a.x) + (at.row * words + at.begin * MR) * kInputs;
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
  // What follows the end of these panels is the start of the next ones, behind all NP of them.
  const std::int64_t left = words - at.ahead;
  std::int64_t wait = at.pass;
  for (std::int64_t i = at.begin; i < at.end; ++i) {
    if (wait-- == 0) {
      const Word* soon = w + at.ahead * kLanes + (i < left ? 0 : (NP - 1) * panel_words);
#pragma GCC unroll 16
      for (int p = 0; p < NP; ++p) prefetch(soon + p * panel_words);
      wait = at.passes - 1;
    }
    if (at.passes > 1) fetch_near<Panel, MR, NP>(w, panel_words, x);
    product_step<Panel, MR, NP>(w, panel_words, x, acc);
    w += kLanes;
    x += kInputs * MR;
  }

  const bool biased = at.end == words && a.bias != nullptr;
#pragma GCC unroll 16
  for (int p = 0; p < NP; ++p) {
    const F16 bias = biased ? load(a.bias + (at.panel + p) * kLanes) : zero();
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const F16 sum = biased ? Panel::add_bias(acc[r][p], bias) : acc[r][p];
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
  static constexpr std::int64_t kInnerBlock = 512 / Panel::kSteps;  // words, which are cache lines
  static constexpr std::int64_t kGroupBlock = 16;
  static constexpr std::int64_t kAheadBlock = kInnerBlock;
  static constexpr std::int64_t kAheadAlone = 32;

  using Scope = typename Panel::Scope;
  FARMESH_SIMD static std::int64_t inner(const ProductArgs& a) { return words_of<Panel>(a.cols); }
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
  [[maybe_unused]] const typename Kernel::Scope scope;
  const RowGroups groups(a.rows, Kernel::kRows);
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
