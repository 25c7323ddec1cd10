#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "base/float_formats.hpp"
#include "kernels/packed_matrix.hpp"
#include "unit/kernels/kernels_fixture.hpp"

namespace farmesh::kernels {
namespace {

using test::Random;

struct Weights {
  std::vector<float> exact;  // [outs, cols], after rounding to the file's dtype
  std::vector<std::byte> bytes;
  DType dtype;
};

Weights random_weights(Random& random, DType dtype, std::int64_t outs, std::int64_t cols) {
  Weights w{random.floats(outs * cols), {}, dtype};
  w.bytes.resize(w.exact.size() * bytes_of(dtype) + 1);
  for (std::size_t i = 0; i < w.exact.size(); ++i) {
    // One byte into the buffer: files promise no alignment.
    std::byte* to = w.bytes.data() + 1 + i * bytes_of(dtype);
    if (dtype == DType::f32) {
      std::memcpy(to, &w.exact[i], 4);
      continue;
    }
    const std::uint16_t half =
        dtype == DType::bf16 ? f32_to_bf16(w.exact[i]) : f32_to_f16(w.exact[i]);
    std::memcpy(to, &half, 2);
    w.exact[i] = dtype == DType::bf16 ? bf16_to_f32(half) : f16_to_f32(half);
  }
  return w;
}

PackedMatrix pack(ThreadPool& pool, DType dtype, const Weights& w, std::int64_t outs,
                  std::int64_t cols) {
  const MatrixRows rows{w.dtype, w.bytes.data() + 1, outs};
  const WeightFormat format = dtype == DType::f32 ? WeightFormat::f32 : WeightFormat::bf16;
  return PackedMatrix::pack(pool, kernel_table(best_isa()), format, {&rows, 1}, cols);
}

/// As a product with bf16 weights reads its inputs.
std::vector<float> rounded(std::vector<float> x) {
  for (float& value : x) value = bf16_to_f32(f32_to_bf16(value));
  return x;
}

/// Rows with a stride of cols + 3.
std::vector<float> product(ThreadPool& pool, Isa isa, const PackedMatrix& matrix,
                           std::vector<float>& x, std::int64_t rows, const float* bias = nullptr) {
  std::vector<float> y(static_cast<std::size_t>(rows * (matrix.outs() + 1)), -7.0F);
  multiply(pool, kernel_table(isa), {x.data(), matrix.cols() + 3, rows}, matrix, bias,
           {y.data(), matrix.outs() + 1, rows});
  return y;
}

TEST_SUITE("kernels/product") {
  TEST_CASE("a product of any shape agrees with a sum in double, on every instruction set") {
    Random random(1);
    ThreadPool pool(3);
    const std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>> shapes{
        {1, 1, 1},   {1, 15, 3},  {1, 80, 64},   {2, 16, 17},  {3, 33, 255},  {5, 7, 256},
        {12, 96, 9}, {13, 40, 5}, {24, 17, 600}, {31, 64, 70}, {200, 48, 259}};
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const auto& [rows, outs, cols] : shapes) {
        const Weights w = random_weights(random, dtype, outs, cols);
        const PackedMatrix matrix = pack(pool, dtype, w, outs, cols);
        std::vector<float> x = random.floats(rows * (cols + 3));
        const std::vector<float> inputs = dtype == DType::bf16 ? rounded(x) : x;
        std::vector<float> bias = random.floats(outs + kLanes);
        for (const Isa isa : test::usable_isas()) {
          CAPTURE(name(isa));
          const auto y = product(pool, isa, matrix, x, rows, bias.data());
          double worst = 0.0;
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t o = 0; o < outs; ++o) {
              double sum = bias[static_cast<std::size_t>(o)];
              double size = std::abs(sum);
              for (std::int64_t k = 0; k < cols; ++k) {
                const double term = double{w.exact[static_cast<std::size_t>(o * cols + k)]} *
                                    inputs[static_cast<std::size_t>(r * (cols + 3) + k)];
                sum += term;
                size += std::abs(term);
              }
              const double got = y[static_cast<std::size_t>(r * (outs + 1) + o)];
              worst = std::max(worst, std::abs(got - sum) / size);
            }
            // Nothing is written past the last output.
            CHECK(y[static_cast<std::size_t>(r * (outs + 1) + outs)] == -7.0F);
          }
          CHECK(worst < 2e-6);
        }
      }
    }
  }

  TEST_CASE("a row keeps its bits in any company, on any threads and instruction set") {
    Random random(2);
    const std::int64_t rows = 61, outs = 83, cols = 601;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      ThreadPool one(1);
      ThreadPool four(4);
      const Weights w = random_weights(random, dtype, outs, cols);
      const PackedMatrix matrix = pack(four, dtype, w, outs, cols);
      std::vector<float> x = random.floats(rows * (cols + 3));
      const auto expected = product(one, Isa::portable, matrix, x, rows);
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        CHECK(product(one, isa, matrix, x, rows) == expected);
        CHECK(product(four, isa, matrix, x, rows) == expected);
        for (std::int64_t count = 1; count < 30; ++count) {
          const std::int64_t first = random.below(rows - count);
          std::vector<float> some(x.begin() + first * (cols + 3),
                                  x.begin() + (first + count) * (cols + 3));
          const auto y = product(four, isa, matrix, some, count);
          CHECK(std::equal(y.begin(), y.end(), expected.begin() + first * (outs + 1)));
        }
      }
    }
  }

  TEST_CASE("rows that are made while they are packed give the bits of rows made before") {
    Random random(6);
    const std::int64_t outs = 37, cols = 71, longer = 2 * cols + 5;
    // Gated, as an MLP's rows are: what is multiplied is shorter than what is given.
    const auto made_of = [&](const float* row, float* made) {
      for (std::int64_t k = 0; k < cols; ++k) made[k] = row[k] * row[cols + k];
    };
    const Weights w = random_weights(random, DType::f32, outs, cols);
    const MatrixRows part{w.dtype, w.bytes.data() + 1, outs};
    const std::vector<float> bias = random.floats(outs + kLanes);
    for (const WeightFormat format :
         {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        const PackedMatrix matrix =
            PackedMatrix::pack(pool, kernel_table(best_isa()), format, {&part, 1}, cols);
        for (const std::int64_t rows : {1, 2, 13, 150}) {
          std::vector<float> x = random.floats(rows * longer);
          std::vector<float> before(static_cast<std::size_t>(rows * cols));
          for (std::int64_t row = 0; row < rows; ++row) {
            made_of(x.data() + row * longer, before.data() + row * cols);
          }
          for (const Isa isa : test::usable_isas()) {
            CAPTURE(name(isa));
            CAPTURE(rows);
            const KernelTable& table = kernel_table(isa);
            std::vector<float> expected(static_cast<std::size_t>(rows * outs), -7.0F);
            std::vector<float> y = expected;
            multiply(pool, table, {before.data(), cols, rows}, matrix, bias.data(),
                     {expected.data(), outs, rows});
            multiply(pool, table, {x.data(), longer, rows}, made_of, matrix, bias.data(),
                     {y.data(), outs, rows});
            CHECK(y == expected);
          }
        }
      }
    }
  }

  TEST_CASE("bf16: pairs are added second product first, subnormal numbers are zeros") {
    // Every number that bf16 has may be a weight or an input; most sums end as NaN or infinite, so
    // that others are of numbers that lie close together.
    Random random(5);
    ThreadPool pool(1);
    const std::int64_t rows = 7, outs = 19;
    for (const std::uint32_t exponents : {3U, 20U, 60U, 256U}) {
      for (const std::int64_t cols : {1, 2, 3, 6, 40}) {
        const auto any = [&] {
          const auto low = static_cast<std::int64_t>(127 - exponents / 2);
          const auto exponent =
              exponents == 256 ? random.below(256) : low + random.below(exponents);
          const auto bits = static_cast<std::uint32_t>(random.below(2) << 31 | exponent << 23 |
                                                       random.below(128) << 16);
          return bf16_to_f32(static_cast<std::uint16_t>(bits >> 16));
        };
        Weights w{std::vector<float>(static_cast<std::size_t>(outs * cols)), {}, DType::bf16};
        w.bytes.resize(w.exact.size() * 2 + 1);
        for (std::size_t i = 0; i < w.exact.size(); ++i) {
          w.exact[i] = any();
          const std::uint16_t half = f32_to_bf16(w.exact[i]);
          std::memcpy(w.bytes.data() + 1 + 2 * i, &half, 2);
        }
        const PackedMatrix matrix = pack(pool, DType::bf16, w, outs, cols);
        std::vector<float> x(static_cast<std::size_t>(rows * (cols + 3)));
        for (float& value : x) value = any();
        const auto normal = [](float value) {
          return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0F, value) : value;
        };
        std::vector<float> expected;
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t o = 0; o < outs; ++o) {
            float sum = 0.0F;
            for (std::int64_t pair = 0; pair < cols; pair += 2) {
              for (const std::int64_t k : {pair + 1, pair}) {
                if (k >= cols) continue;
                sum =
                    normal(std::fma(normal(w.exact[static_cast<std::size_t>(o * cols + k)]),
                                    normal(x[static_cast<std::size_t>(r * (cols + 3) + k)]), sum));
              }
            }
            expected.push_back(sum);
          }
        }
        for (const Isa isa : test::usable_isas()) {
          CAPTURE(name(isa));
          const auto y = product(pool, isa, matrix, x, rows);
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t o = 0; o < outs; ++o) {
              const float got = y[static_cast<std::size_t>(r * (outs + 1) + o)];
              const float want = expected[static_cast<std::size_t>(r * outs + o)];
              const bool equal = got == want || (std::isnan(got) && std::isnan(want));
              REQUIRE_MESSAGE(equal, "" << got << " for " << want);
            }
          }
        }
      }
    }
  }

  TEST_CASE("weights of any file format come back as they were packed") {
    Random random(3);
    ThreadPool pool(2);
    for (const DType file : {DType::f32, DType::bf16, DType::f16}) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        const std::int64_t outs = 21, cols = 1031;
        const Weights w = random_weights(random, file, outs, cols);
        const PackedMatrix matrix = pack(pool, dtype, w, outs, cols);
        std::vector<float> row(static_cast<std::size_t>(cols));
        for (std::int64_t o = 0; o < outs; ++o) {
          matrix.unpack_row(o, row.data());
          for (std::int64_t k = 0; k < cols; ++k) {
            const float weight = w.exact[static_cast<std::size_t>(o * cols + k)];
            const float kept = dtype == DType::f32 ? weight : bf16_to_f32(f32_to_bf16(weight));
            REQUIRE(row[static_cast<std::size_t>(k)] == kept);
          }
        }
      }
    }
  }

  TEST_CASE("stacked matrices give the outputs of each, in their order") {
    Random random(4);
    ThreadPool pool(2);
    const std::int64_t cols = 34;
    const Weights a = random_weights(random, DType::f32, 5, cols);
    const Weights b = random_weights(random, DType::bf16, 20, cols);
    const std::vector<MatrixRows> parts{{DType::f32, a.bytes.data() + 1, 5},
                                        {DType::bf16, b.bytes.data() + 1, 20}};
    const PackedMatrix stacked =
        PackedMatrix::pack(pool, kernel_table(best_isa()), WeightFormat::f32, parts, cols);
    CHECK(stacked.outs() == 25);
    std::vector<float> row(static_cast<std::size_t>(cols));
    stacked.unpack_row(4, row.data());
    CHECK(std::equal(row.begin(), row.end(), a.exact.begin() + 4 * cols));
    stacked.unpack_row(5, row.data());
    CHECK(std::equal(row.begin(), row.end(), b.exact.begin()));
  }
}

}  // namespace
}  // namespace farmesh::kernels
