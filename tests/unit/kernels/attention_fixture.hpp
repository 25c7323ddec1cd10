// A cache of random keys and values in pages, and attention over it in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention.hpp"
#include "unit/kernels/kernels_fixture.hpp"

namespace farmesh::kernels::test {

struct Shape {
  std::int64_t heads, kv_heads, head_dim, length, window;
  KvFormat format;
  float scale = 0.25F;
};

/// A sequence of keys and values in pages that lie in no order, surrounded by NaN.
class Cache {
 public:
  Cache(Random& random, const Shape& shape) : shape_(shape) {
    const std::int64_t kv = shape.kv_heads * shape.head_dim;
    keys = random.floats(shape.length * kv);
    values = random.floats(shape.length * kv);
    const auto count = static_cast<std::uint32_t>((shape.length + kLanes - 1) / kLanes);
    for (std::uint32_t i = 0; i < count; ++i) pages.push_back((count - i) * 2 - 1);
    view.format = shape.format;
    view.kv_heads = shape.kv_heads;
    view.head_dim = shape.head_dim;
    // All bits set is NaN in every format, in int8 by its scales.
    key_bytes.assign(static_cast<std::size_t>(view.key_page_bytes() * 2 * count), std::byte{255});
    value_bytes.assign(static_cast<std::size_t>(view.value_page_bytes() * 2 * count),
                       std::byte{255});
    view.keys = key_bytes.data();
    view.values = value_bytes.data();
  }

  /// Writes positions [0, end).
  void fill(std::int64_t end, Isa isa = Isa::portable) {
    const std::int64_t kv = shape_.kv_heads * shape_.head_dim;
    for (std::int64_t p = 0; p < end; ++p) {
      store_position(kernel_table(isa), view, pages[static_cast<std::size_t>(p / kLanes)],
                     p % kLanes, keys.data() + p * kv, values.data() + p * kv);
    }
  }

  std::vector<float> attend_rows(ThreadPool& pool, Isa isa, const std::vector<float>& q,
                                 std::int64_t first, std::int64_t rows) const {
    const std::int64_t width = shape_.heads * shape_.head_dim;
    std::vector<float> out(static_cast<std::size_t>(rows * width));
    AttentionArgs args;
    args.q = q.data() + first * width;
    args.q_stride = width;
    args.out = out.data();
    args.out_stride = width;
    args.pages = pages.data();
    args.position = first;
    args.rows = rows;
    args.window = shape_.window;
    args.heads = shape_.heads;
    args.scale = shape_.scale;
    attend(pool, kernel_table(isa), view, {&args, 1});
    return out;
  }

  std::vector<float> keys, values;  // [length, kv_heads * head_dim], as they come
  std::vector<std::uint32_t> pages;
  CacheView view;
  std::vector<std::byte> key_bytes, value_bytes;

 private:
  Shape shape_;
};

/// What one row should see, in double, over these keys and values.
inline std::vector<double> plain_attention(const Shape& s, const std::vector<float>& keys,
                                           const std::vector<float>& values,
                                           const std::vector<float>& q, std::int64_t row) {
  const std::int64_t kv = s.kv_heads * s.head_dim;
  std::vector<double> out(static_cast<std::size_t>(s.heads * s.head_dim), 0.0);
  const std::int64_t from = s.window > 0 ? std::max<std::int64_t>(0, row + 1 - s.window) : 0;
  for (std::int64_t head = 0; head < s.heads; ++head) {
    const std::int64_t shared = head / (s.heads / s.kv_heads) * s.head_dim;
    std::vector<double> weight;
    double total = 0.0;
    for (std::int64_t p = from; p <= row; ++p) {
      double score = 0.0;
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        score += double{q[static_cast<std::size_t>((row * s.heads + head) * s.head_dim + d)]} *
                 keys[static_cast<std::size_t>(p * kv + shared + d)];
      }
      weight.push_back(std::exp(score * double{s.scale}));
      total += weight.back();
    }
    for (std::int64_t p = from; p <= row; ++p) {
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        out[static_cast<std::size_t>(head * s.head_dim + d)] +=
            weight[static_cast<std::size_t>(p - from)] / total *
            values[static_cast<std::size_t>(p * kv + shared + d)];
      }
    }
  }
  return out;
}

}  // namespace farmesh::kernels::test
