// Attention over pages of f32 and bf16, and what holds of every format.
#include <cmath>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "base/float_formats.hpp"
#include "unit/kernels/attention_fixture.hpp"

namespace farmesh::kernels {
namespace {

using test::Cache;
using test::Random;
using test::Shape;

const std::vector<Shape> kShapes{
    {1, 1, 2, 1, 0, KvFormat::f32},     {4, 4, 16, 40, 0, KvFormat::f32},
    {6, 2, 10, 33, 0, KvFormat::bf16},  {14, 1, 24, 50, 0, KvFormat::bf16},
    {8, 2, 64, 100, 0, KvFormat::bf16}, {4, 2, 80, 70, 7, KvFormat::f32},
    {3, 3, 18, 90, 33, KvFormat::bf16}, {16, 1, 128, 48, 1, KvFormat::f32}};

std::vector<Shape> all_formats() {
  std::vector<Shape> shapes = kShapes;
  for (Shape shape : kShapes) {
    shape.format = KvFormat::int8;
    shapes.push_back(shape);
  }
  return shapes;
}

TEST_SUITE("kernels/attention") {
  TEST_CASE("attention agrees with a sum in double, and sees no byte it must not see") {
    Random random(5);
    ThreadPool pool(2);
    for (const Shape& shape : kShapes) {
      Cache cache(random, shape);
      if (shape.format == KvFormat::bf16) {
        for (float& x : cache.keys) x = bf16_to_f32(f32_to_bf16(x));
        for (float& x : cache.values) x = bf16_to_f32(f32_to_bf16(x));
      }
      const auto q = random.floats(shape.length * shape.heads * shape.head_dim);
      cache.fill(shape.length);
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        const auto out = cache.attend_rows(pool, isa, q, 0, shape.length);
        double worst = 0.0;
        for (std::int64_t row = 0; row < shape.length; ++row) {
          const auto expected = test::plain_attention(shape, cache.keys, cache.values, q, row);
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
    for (const Shape& shape : all_formats()) {
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
