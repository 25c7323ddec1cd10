// Attention over cache pages.
//
// Up to kTileRows query vectors that share a kv head are taken together, so that a page is read
// once for its group. Scores: lanes are the positions of a page, summed over head_dim in
// sequence. Values: lanes are head_dim, summed over absolute positions in sequence. A position
// that a row may not see is never multiplied in, not even by zero: the bytes there may be
// anything.
//
// Of an int8 cache, scores are taken as products of int8 weights are: a group of head_dim exactly,
// in integers, the groups in sequence. The values' scales go into the weights before the sum.
#pragma once

#include "kernels/bodies/quant_product.hpp"
#include "kernels/bodies/quantise.hpp"
#include "kernels/kernel_table.hpp"

namespace farmesh::kernels {
namespace {

// Pages lie anywhere, so that no hardware foresees the next: one is fetched this many pages before
// it is used.
inline constexpr std::int64_t kAheadPages = 4;

/// Scores of MR query vectors against NP pages, fetching `next` ones meanwhile. q: [head_dim][MR];
/// keys: per page [head_dim][16].
template <class T, int MR, int NP>
void score_pages(const float* q, std::int64_t head_dim, const T* const* keys, const T* const* next,
                 float scale, float* scores, std::int64_t stride) {
  F16 acc[MR][NP];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) acc[r][p] = zero();
  }
  for (std::int64_t d = 0; d < head_dim; ++d) {
    F16 k[NP];
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) {
      k[p] = load(keys[p] + d * kLanes);
      prefetch(next[p] + d * kLanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const F16 component = broadcast(q[d * MR + r]);
#pragma GCC unroll 16
      for (int p = 0; p < NP; ++p) acc[r][p] = fma(k[p], component, acc[r][p]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) {
      store(scores + r * stride + p * kLanes, mul(acc[r][p], broadcast(scale)));
    }
  }
}

/// The same of one page of an int8 cache; keys, next: blocks. q: as quantise_group writes MR rows.
template <int MR>
void score_byte_page(const std::uint32_t* q, std::int64_t head_dim, const std::uint8_t* keys,
                     const std::uint8_t* next, float scale, float* scores, std::int64_t stride) {
  constexpr std::int64_t kScales = 2 * kLanes;  // bytes of one group's
  F16 acc[MR][1];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) acc[r][0] = zero();
  const std::int64_t scales = byte_keys_of(head_dim);
  const std::int64_t groups = key_groups_of(head_dim);
  for (std::int64_t group = 0; group < groups; ++group) {
    prefetch(next + scales + (group + 1) * kScales);
    add_group<Int8Panel>(keys + group * kGroupBytes<Int8Panel>, keys + scales + group * kScales, 0,
                         next - keys, q + group * kGroupWords * MR, acc);
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) store(scores + r * stride, mul(acc[r][0], broadcast(scale)));
}

/// scores[0, n) become exp(score - max), outside [begin, end) zero; returns their sum.
float softmax_row(float* scores, std::int64_t n, std::int64_t begin, std::int64_t end) {
  const float hidden = -__builtin_inff();
  for (std::int64_t i = 0; i < begin; ++i) scores[i] = hidden;
  for (std::int64_t i = end; i < n; ++i) scores[i] = hidden;
  F16 most = broadcast(hidden);
  for (std::int64_t i = 0; i < n; i += kLanes) most = max(most, load(scores + i));
  const F16 top = broadcast(fold_max(most));
  F16 sum = zero();
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const F16 weight = exp(sub(load(scores + i), top));
    store(scores + i, weight);
    sum = add(sum, weight);
  }
  return fold_add(sum);
}

/// Where one chunk's weights and pages lie. `base` is the position of weights[0].
struct ValueRun {
  const float* weights;  // [MR][stride]
  std::int64_t stride;
  std::int64_t base;
  std::int64_t begin, end;  // absolute positions to add
};

/// out[r][0, ND * 16) += sum over positions of weight * value. out: [MR][out_stride].
template <class T, int MR, int ND>
void add_values(const AttentionArgs& a, std::int64_t kv_head, std::int64_t dim, const ValueRun& run,
                float* out, std::int64_t out_stride) {
  const std::int64_t value_dim = a.value_dim();
  constexpr int kPerLine = 64 / (kLanes * static_cast<int>(sizeof(T)));
  const T* values = static_cast<const T*>(a.values) + kv_head * kLanes * value_dim + dim;
  const std::int64_t page_size = a.kv_heads * kLanes * value_dim;
  F16 acc[MR][ND];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int d = 0; d < ND; ++d) acc[r][d] = load(out + r * out_stride + d * kLanes);
  }
  for (std::int64_t position = run.begin; position < run.end;) {
    const T* page = values + a.pages[position / kLanes] * page_size;
    const std::int64_t page_end = (position / kLanes + 1) * kLanes;
    const std::int64_t stop = page_end < run.end ? page_end : run.end;
    const std::int64_t ahead = position / kLanes + kAheadPages;
    const T* soon = ahead * kLanes < run.end ? values + a.pages[ahead] * page_size : page;
    for (; position < stop; ++position) {
      const std::int64_t row = position % kLanes * value_dim;
      const T* value = page + row;
#pragma GCC unroll 16
      for (int d = 0; d < ND; d += kPerLine) prefetch(soon + row + d * kLanes);
      const float* weight = run.weights + (position - run.base);
      F16 v[ND];
#pragma GCC unroll 16
      for (int d = 0; d < ND; ++d) v[d] = load(value + d * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < MR; ++r) {
        const F16 w = broadcast(weight[r * run.stride]);
#pragma GCC unroll 16
        for (int d = 0; d < ND; ++d) acc[r][d] = fma(w, v[d], acc[r][d]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int d = 0; d < ND; ++d) store(out + r * out_stride + d * kLanes, acc[r][d]);
  }
}

inline constexpr int kScorePages = 4;  // pages at once for few query vectors

template <KvFormat kFormat>
struct Kept {
  using Number = float;
};
template <>
struct Kept<KvFormat::bf16> {
  using Number = std::uint16_t;
};
template <>
struct Kept<KvFormat::int8> {
  using Number = std::int8_t;
};

/// MR query vectors of one kv head, from scores to output. Vector r is row (first + r) / group of
/// the sequence, head (first + r) % group of the kv head's group.
template <KvFormat kFormat, int MR>
class AttentionChunk {
 public:
  FARMESH_SIMD AttentionChunk(const AttentionArgs& args, std::int64_t kv_head, std::int64_t first,
                              float* scratch)
      : a_(args),
        kv_head_(kv_head),
        first_(first),
        q_(scratch),
        scores_(scratch + kTileRows * query_floats(args.head_dim)) {}

  FARMESH_SIMD void run() {
    find_ranges();
    if constexpr (kBytes) {
      score_bytes();
    } else {
      score();
    }
    for (int r = 0; r < MR; ++r) {
      sum_[r] =
          softmax_row(scores_ + r * stride_, pages_ * kLanes, begin_[r] - base_, end_[r] - base_);
    }
    if constexpr (kBytes) scale_weights();
    std::int64_t dim = 0;
    for (; dim + kDims * kLanes <= a_.value_dim(); dim += kDims * kLanes) values<kDims>(dim);
    for (; dim < a_.value_dim(); dim += kLanes) values<1>(dim);
  }

 private:
  using Number = typename Kept<kFormat>::Number;
  static constexpr bool kBytes = kFormat == KvFormat::int8;
  static constexpr int kPages = MR * kScorePages <= kTileRows * kTilePanels ? kScorePages : 1;
  static constexpr int kDims = MR * 4 <= kTileRows * kTilePanels ? 4 : kTilePanels;

  FARMESH_SIMD std::int64_t row(int r) const { return (first_ + r) / a_.group(); }
  FARMESH_SIMD std::int64_t column(int r) const {
    return (kv_head_ * a_.group() + (first_ + r) % a_.group()) * a_.head_dim;
  }

  /// Which positions each vector sees, which all of them see, and which pages that touches.
  FARMESH_SIMD void find_ranges() {
    std::int64_t low = INT64_MAX;
    std::int64_t high = 0;
    for (int r = 0; r < MR; ++r) {
      end_[r] = a_.position + row(r) + 1;
      begin_[r] = a_.window > 0 && end_[r] > a_.window ? end_[r] - a_.window : 0;
      low = begin_[r] < low ? begin_[r] : low;
      high = end_[r] > high ? end_[r] : high;
      shared_begin_ = begin_[r] > shared_begin_ ? begin_[r] : shared_begin_;
      shared_end_ = end_[r] < shared_end_ ? end_[r] : shared_end_;
    }
    base_ = low / kLanes * kLanes;
    pages_ = (high + kLanes - 1) / kLanes - low / kLanes;
    // One vector more than needed: a power of two would put all rows into one cache set.
    stride_ = (pages_ + 1) * kLanes;
  }

  FARMESH_SIMD void score() {
    for (int r = 0; r < MR; ++r) {
      const float* from = a_.q + row(r) * a_.q_stride + column(r);
      for (std::int64_t d = 0; d < a_.head_dim; ++d) q_[d * MR + r] = from[d];
    }
    std::int64_t page = 0;
    for (; page + kPages <= pages_; page += kPages) score_from<kPages>(page);
    for (; page < pages_; ++page) score_from<1>(page);
  }

  FARMESH_SIMD void score_bytes() {
    auto* q = reinterpret_cast<std::uint32_t*>(q_);
    for (int r = 0; r < MR; ++r) {
      const float* from = a_.q + row(r) * a_.q_stride + column(r);
      for (std::int64_t d = 0; d < a_.head_dim; d += kGroup) {
        quantise_group(load_some(from + d, a_.head_dim - d),
                       load_some(from + d + kLanes, a_.head_dim - d - kLanes),
                       q + d / kGroup * kGroupWords * MR + r, MR);
      }
    }
    for (std::int64_t page = 0; page < pages_; ++page) {
      score_byte_page<MR>(q, a_.head_dim, key_block(page), key_block(soon(page)), a_.scale,
                          scores_ + page * kLanes, stride_);
    }
  }

  FARMESH_SIMD void scale_weights() {
    const std::int64_t at = byte_keys_of(a_.head_dim) + key_groups_of(a_.head_dim) * 2 * kLanes;
    for (std::int64_t page = 0; page < pages_; ++page) {
      const F16 scales = load(reinterpret_cast<const std::uint16_t*>(key_block(page) + at));
      for (int r = 0; r < MR; ++r) {
        float* weights = scores_ + r * stride_ + page * kLanes;
        store(weights, mul(load(weights), scales));
      }
    }
  }

  FARMESH_SIMD const std::uint8_t* key_block(std::int64_t page) const {
    const std::int64_t block = a_.pages[base_ / kLanes + page] * a_.kv_heads + kv_head_;
    return static_cast<const std::uint8_t*>(a_.keys) +
           block * key_block_bytes(kFormat, a_.head_dim);
  }
  FARMESH_SIMD const Number* keys_of(std::int64_t page) const {
    return reinterpret_cast<const Number*>(key_block(page));
  }
  /// The page to fetch while this one is used.
  FARMESH_SIMD std::int64_t soon(std::int64_t page) const {
    return page + kAheadPages < pages_ ? page + kAheadPages : page;
  }

  template <int NP>
  FARMESH_SIMD void score_from(std::int64_t page) {
    const Number* keys[NP];
    const Number* next[NP];
    for (int p = 0; p < NP; ++p) {
      keys[p] = keys_of(page + p);
      next[p] = keys_of(soon(page + p));
    }
    score_pages<Number, MR, NP>(q_, a_.head_dim, keys, next, a_.scale, scores_ + page * kLanes,
                                stride_);
  }

  /// Output columns [dim, dim + ND * 16) of every vector. Each vector alone up to where all see
  /// the same positions, together from there, then alone again: one order for each.
  template <int ND>
  FARMESH_SIMD void values(std::int64_t dim) {
    constexpr std::int64_t kWidth = ND * kLanes;
    alignas(64) float out[MR * kWidth];
    for (float& sum : out) sum = 0.0F;
    const bool shared = shared_begin_ < shared_end_;
    for (int r = 0; r < MR; ++r) {
      const std::int64_t end = shared ? shared_begin_ : end_[r];
      const ValueRun run{scores_ + r * stride_, stride_, base_, begin_[r], end};
      add_values<Number, 1, ND>(a_, kv_head_, dim, run, out + r * kWidth, kWidth);
    }
    if (shared) {
      const ValueRun run{scores_, stride_, base_, shared_begin_, shared_end_};
      add_values<Number, MR, ND>(a_, kv_head_, dim, run, out, kWidth);
      for (int r = 0; r < MR; ++r) {
        const ValueRun rest{scores_ + r * stride_, stride_, base_, shared_end_, end_[r]};
        add_values<Number, 1, ND>(a_, kv_head_, dim, rest, out + r * kWidth, kWidth);
      }
    }
    for (int r = 0; r < MR; ++r) {
      float* to = a_.out + row(r) * a_.out_stride + column(r) + dim;
      for (std::int64_t at = 0; at < kWidth; at += kLanes) {
        const std::int64_t left = a_.head_dim - dim - at;
        const F16 mean = div(load(out + r * kWidth + at), broadcast(sum_[r]));
        store_lanes(to + at, mean, left < kLanes ? left : kLanes);
      }
    }
  }

  const AttentionArgs& a_;
  const std::int64_t kv_head_;
  const std::int64_t first_;
  float* const q_;                    // [head_dim][MR], or as score_byte_page takes it
  float* const scores_;               // [MR][stride_], from position base_ on
  std::int64_t begin_[MR], end_[MR];  // positions each vector sees
  std::int64_t shared_begin_ = 0;     // positions all of them see
  std::int64_t shared_end_ = INT64_MAX;
  std::int64_t base_ = 0, pages_ = 0, stride_ = 0;
  float sum_[MR];
};

template <KvFormat kFormat, int MR>
void attention_chunk(const AttentionArgs& a, std::int64_t kv_head, std::int64_t first,
                     float* scratch) {
  AttentionChunk<kFormat, MR>(a, kv_head, first, scratch).run();
}

using ChunkFunction = void (*)(const AttentionArgs&, std::int64_t, std::int64_t, float*);

template <KvFormat kFormat>
struct Chunks {
  ChunkFunction by_vectors[kTileRows];
  constexpr Chunks() : by_vectors{} { fill<kTileRows>(); }
  template <int MR>
  constexpr void fill() {
    if constexpr (MR > 0) {
      by_vectors[MR - 1] = &attention_chunk<kFormat, MR>;
      fill<MR - 1>();
    }
  }
};

template <KvFormat kFormat>
void attention(const AttentionArgs& a, std::int64_t kv_head, std::int64_t begin, std::int64_t end,
               float* scratch) {
  static constexpr Chunks<kFormat> chunks;
  for (std::int64_t vector = begin; vector < end; vector += kTileRows) {
    const std::int64_t count = end - vector < kTileRows ? end - vector : kTileRows;
    chunks.by_vectors[count - 1](a, kv_head, vector, scratch);
  }
}

}  // namespace
}  // namespace farmesh::kernels
