#include "kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "base/float_formats.hpp"
#include "unit/kernels/kernels_fixture.hpp"

namespace farmesh::kernels {
namespace {

using test::Random;

struct Shape {
  std::int64_t heads, kv_heads, head_dim, length, window;
  DType dtype;
};

/// A sequence of keys and values in pages that lie in no order, surrounded by NaN.
class Cache {
 public:
  Cache(Random& random, const Shape& shape) : shape_(shape) {
    const std::int64_t kv = shape.kv_heads * shape.head_dim;
    keys = random.floats(shape.length * kv);
    values = random.floats(shape.length * kv);
    if (shape.dtype == DType::bf16) {
      for (float& x : keys) x = bf16_to_f32(f32_to_bf16(x));
      for (float& x : values) x = bf16_to_f32(f32_to_bf16(x));
    }
    const auto count = static_cast<std::uint32_t>((shape.length + kLanes - 1) / kLanes);
    for (std::uint32_t i = 0; i < count; ++i) pages.push_back((count - i) * 2 - 1);
    view.dtype = shape.dtype;
    view.kv_heads = shape.kv_heads;
    view.head_dim = shape.head_dim;
    // All bits set is NaN in both formats.
    key_bytes_.assign(static_cast<std::size_t>(view.key_page_bytes() * 2 * count), std::byte{255});
    value_bytes_.assign(static_cast<std::size_t>(view.value_page_bytes() * 2 * count),
                        std::byte{255});
    view.keys = key_bytes_.data();
    view.values = value_bytes_.data();
  }

  /// Writes positions [0, end).
  void fill(std::int64_t end) {
    const std::int64_t kv = shape_.kv_heads * shape_.head_dim;
    for (std::int64_t p = 0; p < end; ++p) {
      store_position(kernel_table(Isa::portable), view, pages[static_cast<std::size_t>(p / kLanes)],
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
    args.scale = 0.25F;
    attend(pool, kernel_table(isa), view, {&args, 1});
    return out;
  }

  std::vector<float> keys, values;  // [length, kv_heads * head_dim]
  std::vector<std::uint32_t> pages;
  CacheView view;

 private:
  Shape shape_;
  std::vector<std::byte> key_bytes_, value_bytes_;
};

std::vector<double> plain_attention(const Shape& s, const Cache& cache, const std::vector<float>& q,
                                    std::int64_t row) {
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
                 cache.keys[static_cast<std::size_t>(p * kv + shared + d)];
      }
      weight.push_back(std::exp(score * 0.25));
      total += weight.back();
    }
    for (std::int64_t p = from; p <= row; ++p) {
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        out[static_cast<std::size_t>(head * s.head_dim + d)] +=
            weight[static_cast<std::size_t>(p - from)] / total *
            cache.values[static_cast<std::size_t>(p * kv + shared + d)];
      }
    }
  }
  return out;
}

const std::vector<Shape> kShapes{{1, 1, 2, 1, 0, DType::f32},     {4, 4, 16, 40, 0, DType::f32},
                                 {6, 2, 10, 33, 0, DType::bf16},  {14, 1, 24, 50, 0, DType::bf16},
                                 {8, 2, 64, 100, 0, DType::bf16}, {4, 2, 80, 70, 7, DType::f32},
                                 {3, 3, 18, 90, 33, DType::bf16}, {16, 1, 128, 48, 1, DType::f32}};

TEST_SUITE("kernels/attention") {
  TEST_CASE("attention agrees with a sum in double, and sees no byte it must not see") {
    Random random(5);
    ThreadPool pool(2);
    for (const Shape& shape : kShapes) {
      Cache cache(random, shape);
      const auto q = random.floats(shape.length * shape.heads * shape.head_dim);
      cache.fill(shape.length);
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        const auto out = cache.attend_rows(pool, isa, q, 0, shape.length);
        double worst = 0.0;
        for (std::int64_t row = 0; row < shape.length; ++row) {
          const auto expected = plain_attention(shape, cache, q, row);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            const double got = out[static_cast<std::size_t>(row) * expected.size() + i];
            worst = std::isnan(got) ? INFINITY : std::max(worst, std::abs(got - expected[i]));
          }
        }
        CHECK(worst < 5e-6);
      }
    }
  }

  TEST_CASE("a row keeps its bits in any chunk, before and after later rows are in the cache") {
    Random random(6);
    ThreadPool pool(3);
    for (const Shape& shape : kShapes) {
      Cache cache(random, shape);
      const auto q = random.floats(shape.length * shape.heads * shape.head_dim);
      const auto width = static_cast<std::size_t>(shape.heads * shape.head_dim);
      std::vector<float> step_by_step;
      for (std::int64_t row = 0; row < shape.length; ++row) {
        cache.fill(row + 1);  // the rest is still NaN
        const auto out = cache.attend_rows(pool, Isa::portable, q, row, 1);
        step_by_step.insert(step_by_step.end(), out.begin(), out.end());
      }
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{7}, shape.length}) {
          for (std::int64_t first = 0; first < shape.length; first += chunk) {
            const std::int64_t rows = std::min(chunk, shape.length - first);
            const auto out = cache.attend_rows(pool, isa, q, first, rows);
            CHECK(std::memcmp(out.data(),
                              step_by_step.data() + static_cast<std::size_t>(first) * width,
                              out.size() * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::kernels
