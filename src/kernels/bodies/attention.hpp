// Attention over cache pages.
//
// Up to kTileRows query vectors that share a kv head are taken together, so that a page is read
// once for its group. Scores: lanes are the positions of a page, summed over head_dim in
// sequence. Values: lanes are head_dim, summed over absolute positions in sequence. A position
// that a row may not see is never multiplied in, not even by zero: the bytes there may be
// anything.
#pragma once

#include "kernels/bodies/elementwise.hpp"
#include "kernels/kernel_table.hpp"

namespace farmesh::kernels {
namespace {

/// Scores of MR query vectors against NP pages. q: [head_dim][MR]; keys: per page [head_dim][16].
template <class T, int MR, int NP>
void score_pages(const float* q, std::int64_t head_dim, const T* const* keys, float scale,
                 float* scores, std::int64_t stride) {
  F16 acc[MR][NP];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) acc[r][p] = zero();
  }
  for (std::int64_t d = 0; d < head_dim; ++d) {
    F16 k[NP];
#pragma GCC unroll 16
    for (int p = 0; p < NP; ++p) k[p] = load(keys[p] + d * kLanes);
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
  const T* values = static_cast<const T*>(a.values) + kv_head * kLanes * value_dim + dim;
  F16 acc[MR][ND];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int d = 0; d < ND; ++d) acc[r][d] = load(out + r * out_stride + d * kLanes);
  }
  for (std::int64_t position = run.begin; position < run.end;) {
    const T* page = values + a.pages[position / kLanes] * a.value_page();
    const std::int64_t page_end = (position / kLanes + 1) * kLanes;
    const std::int64_t stop = page_end < run.end ? page_end : run.end;
    for (; position < stop; ++position) {
      const T* value = page + position % kLanes * value_dim;
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

template <class T, int MR>
void attention_chunk(const AttentionArgs& a, std::int64_t kv_head, std::int64_t first_vector,
                     float* scratch) {
  const std::int64_t group = a.group();
  const std::int64_t head_dim = a.head_dim;
  std::int64_t begin[MR], end[MR];
  std::int64_t low = INT64_MAX, high = 0, low_common = 0, high_common = INT64_MAX;
  float* q = scratch;  // [head_dim][MR]
  for (int r = 0; r < MR; ++r) {
    const std::int64_t row = (first_vector + r) / group;
    const std::int64_t head = kv_head * group + (first_vector + r) % group;
    end[r] = a.position + row + 1;
    begin[r] = a.window > 0 && end[r] > a.window ? end[r] - a.window : 0;
    low = begin[r] < low ? begin[r] : low;
    high = end[r] > high ? end[r] : high;
    low_common = begin[r] > low_common ? begin[r] : low_common;
    high_common = end[r] < high_common ? end[r] : high_common;
    const float* from = a.q + row * a.q_stride + head * head_dim;
    for (std::int64_t d = 0; d < head_dim; ++d) q[d * MR + r] = from[d];
  }

  const std::int64_t first_page = low / kLanes;
  const std::int64_t pages = (high + kLanes - 1) / kLanes - first_page;
  const std::int64_t base = first_page * kLanes;
  // One vector more than needed: a power of two would put all rows into one cache set.
  const std::int64_t stride = (pages + 1) * kLanes;
  float* scores = scratch + kTileRows * head_dim;  // [MR][stride]
  const T* keys = static_cast<const T*>(a.keys) + kv_head * head_dim * kLanes;
  const auto key_page = [&](std::int64_t p) {
    return keys + a.pages[first_page + p] * a.key_page();
  };
  constexpr int NP = MR * kScorePages <= kTileRows * kTilePanels ? kScorePages : 1;
  std::int64_t page = 0;
  for (; page + NP <= pages; page += NP) {
    const T* at[NP];
    for (int p = 0; p < NP; ++p) at[p] = key_page(page + p);
    score_pages<T, MR, NP>(q, head_dim, at, a.scale, scores + page * kLanes, stride);
  }
  for (; page < pages; ++page) {
    const T* at[1] = {key_page(page)};
    score_pages<T, MR, 1>(q, head_dim, at, a.scale, scores + page * kLanes, stride);
  }

  float sum[MR];
  for (int r = 0; r < MR; ++r) {
    sum[r] = softmax_row(scores + r * stride, pages * kLanes, begin[r] - base, end[r] - base);
  }

  constexpr int ND = MR * 4 <= kTileRows * kTilePanels ? 4 : kTilePanels;
  const bool shared = low_common < high_common;
  alignas(64) float out[MR * ND * kLanes];
  for (std::int64_t dim = 0; dim < a.value_dim();) {
    const bool whole = dim + ND * kLanes <= a.value_dim();
    const int vectors = whole ? ND : 1;
    for (int i = 0; i < MR * ND * kLanes; ++i) out[i] = 0.0F;
    // Each row alone up to where all rows see the same positions, together, then alone again.
    const auto alone = [&](int r, std::int64_t from, std::int64_t to) {
      if (from >= to) return;
      const ValueRun run{scores + r * stride, stride, base, from, to};
      float* row = out + r * ND * kLanes;
      if (whole) {
        add_values<T, 1, ND>(a, kv_head, dim, run, row, ND * kLanes);
      } else {
        add_values<T, 1, 1>(a, kv_head, dim, run, row, ND * kLanes);
      }
    };
    for (int r = 0; r < MR; ++r) alone(r, begin[r], shared ? low_common : end[r]);
    if (shared) {
      const ValueRun run{scores, stride, base, low_common, high_common};
      if (whole) {
        add_values<T, MR, ND>(a, kv_head, dim, run, out, ND * kLanes);
      } else {
        add_values<T, MR, 1>(a, kv_head, dim, run, out, ND * kLanes);
      }
      for (int r = 0; r < MR; ++r) alone(r, high_common, end[r]);
    }
    for (int r = 0; r < MR; ++r) {
      const std::int64_t row = (first_vector + r) / group;
      const std::int64_t head = kv_head * group + (first_vector + r) % group;
      float* to = a.out + row * a.out_stride + head * head_dim;
      for (int v = 0; v < vectors; ++v) {
        const std::int64_t at = dim + v * kLanes;
        const std::int64_t lanes = head_dim - at < kLanes ? head_dim - at : kLanes;
        const F16 mean = div(load(out + (r * ND + v) * kLanes), broadcast(sum[r]));
        store_lanes(to + at, mean, lanes);
      }
    }
    dim += vectors * kLanes;
  }
}

using ChunkFunction = void (*)(const AttentionArgs&, std::int64_t, std::int64_t, float*);

template <class T>
struct Chunks {
  ChunkFunction by_vectors[kTileRows];
  constexpr Chunks() : by_vectors{} { fill<kTileRows>(); }
  template <int MR>
  constexpr void fill() {
    if constexpr (MR > 0) {
      by_vectors[MR - 1] = &attention_chunk<T, MR>;
      fill<MR - 1>();
    }
  }
};

template <class T>
void attention(const AttentionArgs& a, std::int64_t kv_head, std::int64_t begin, std::int64_t end,
               float* scratch) {
  static constexpr Chunks<T> chunks;
  for (std::int64_t vector = begin; vector < end; vector += kTileRows) {
    const std::int64_t count = end - vector < kTileRows ? end - vector : kTileRows;
    chunks.by_vectors[count - 1](a, kv_head, vector, scratch);
  }
}

}  // namespace
}  // namespace farmesh::kernels
