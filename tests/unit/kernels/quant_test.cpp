// Products of int8 and int4 weights, and what quantising keeps.
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

constexpr WeightFormat kFormats[] = {WeightFormat::int8, WeightFormat::int4};

MatrixRows rows_of(const std::vector<float>& weights, std::int64_t cols) {
  return {DType::f32, reinterpret_cast<const std::byte*>(weights.data()),
          static_cast<std::int64_t>(weights.size()) / cols};
}

PackedMatrix pack(ThreadPool& pool, Isa isa, WeightFormat format, const std::vector<float>& weights,
                  std::int64_t cols) {
  const MatrixRows rows = rows_of(weights, cols);
  return PackedMatrix::pack(pool, kernel_table(isa), format, {&rows, 1}, cols);
}

std::vector<float> unpacked(const PackedMatrix& matrix) {
  std::vector<float> weights(static_cast<std::size_t>(matrix.outs() * matrix.cols()));
  for (std::int64_t out = 0; out < matrix.outs(); ++out) {
    matrix.unpack_row(out, weights.data() + out * matrix.cols());
  }
  return weights;
}

/// Rows with a stride of cols + 3; outputs with one of outs + 1, the last one untouched.
std::vector<float> product(ThreadPool& pool, Isa isa, const PackedMatrix& matrix,
                           std::vector<float>& x, std::int64_t rows, const float* bias = nullptr) {
  std::vector<float> y(static_cast<std::size_t>(rows * (matrix.outs() + 1)), -7.0F);
  multiply(pool, kernel_table(isa), {x.data(), matrix.cols() + 3, rows}, matrix, bias,
           {y.data(), matrix.outs() + 1, rows});
  return y;
}

/// One row as a product takes it, in double.
std::vector<double> rounded_row(const float* x, std::int64_t cols) {
  std::vector<double> row(static_cast<std::size_t>(cols));
  for (std::int64_t first = 0; first < cols; first += kGroup) {
    const std::int64_t end = std::min(cols, first + kGroup);
    float top = 0.0F;
    for (std::int64_t k = first; k < end; ++k) top = std::max(top, std::abs(x[k]));
    if (top == 0.0F) continue;
    for (std::int64_t k = first; k < end; ++k) {
      const float steps = std::fma(x[k], 127.0F / top, 12582912.0F) - 12582912.0F;
      row[static_cast<std::size_t>(k)] = double{steps} * double{top / 127.0F};
    }
  }
  return row;
}

double rms(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = double{a[i]} - double{b[i]};
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

/// The plain way: a group's largest weight is seven steps, every weight its nearest step.
std::vector<float> nearest_int4(std::vector<float> weights) {
  for (std::size_t first = 0; first < weights.size(); first += kGroup) {
    float top = 0.0F;
    for (std::size_t k = first; k < first + kGroup; ++k) top = std::max(top, std::abs(weights[k]));
    const float step = top / 7.0F;
    for (std::size_t k = first; k < first + kGroup; ++k) {
      weights[k] = std::nearbyint(weights[k] / step) * step;
    }
  }
  return weights;
}

TEST_SUITE("kernels/quant") {
  TEST_CASE("a quantised product of any shape agrees with a sum in double, on every ISA") {
    Random random(11);
    ThreadPool pool(3);
    const std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>> shapes{
        {1, 1, 1},   {1, 15, 3},    {1, 80, 64},    {2, 16, 17},    {3, 33, 255},  {5, 7, 256},
        {6, 96, 33}, {7, 40, 65},   {12, 17, 96},   {13, 64, 70},   {24, 31, 600}, {31, 16, 129},
        {1, 65, 31}, {1, 144, 129}, {200, 48, 259}, {205, 21, 1090}};
    for (const WeightFormat format : kFormats) {
      for (const auto& [rows, outs, cols] : shapes) {
        CAPTURE(rows);
        CAPTURE(outs);
        CAPTURE(cols);
        const PackedMatrix matrix =
            pack(pool, best_isa(), format, random.floats(outs * cols), cols);
        const std::vector<float> weights = unpacked(matrix);
        std::vector<float> x = random.floats(rows * (cols + 3));
        const std::vector<float> bias = random.floats(outs + kLanes);
        for (const Isa isa : test::usable_isas()) {
          CAPTURE(name(isa));
          const auto y = product(pool, isa, matrix, x, rows, bias.data());
          double worst = 0.0;
          for (std::int64_t r = 0; r < rows; ++r) {
            const std::vector<double> row = rounded_row(x.data() + r * (cols + 3), cols);
            for (std::int64_t o = 0; o < outs; ++o) {
              double sum = bias[static_cast<std::size_t>(o)];
              double size = std::abs(sum);
              for (std::int64_t k = 0; k < cols; ++k) {
                const double term = double{weights[static_cast<std::size_t>(o * cols + k)]} *
                                    row[static_cast<std::size_t>(k)];
                sum += term;
                size += std::abs(term);
              }
              const double got = y[static_cast<std::size_t>(r * (outs + 1) + o)];
              worst = std::max(worst, std::abs(got - sum) / size);
            }
            CHECK(y[static_cast<std::size_t>(r * (outs + 1) + outs)] == -7.0F);
          }
          CHECK(worst < 1e-6);
        }
      }
    }
  }

  TEST_CASE("a row keeps its bits in any company, on any threads and instruction set") {
    Random random(12);
    const std::int64_t rows = 230, outs = 83, cols = 1100;
    for (const WeightFormat format : kFormats) {
      ThreadPool one(1);
      ThreadPool four(4);
      const std::vector<float> weights = random.floats(outs * cols);
      const PackedMatrix matrix = pack(four, Isa::portable, format, weights, cols);
      std::vector<float> x = random.floats(rows * (cols + 3));
      const auto expected = product(one, Isa::portable, matrix, x, rows);
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        const PackedMatrix same = pack(one, isa, format, weights, cols);
        REQUIRE(same.bytes() == matrix.bytes());
        CHECK(std::memcmp(same.panels(), matrix.panels(), matrix.bytes()) == 0);
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

  TEST_CASE("an int8 weight is off by half a step at most, and the largest weights stay") {
    Random random(13);
    ThreadPool pool(2);
    const std::int64_t outs = 37, cols = 200;
    const std::vector<float> weights = random.floats(outs * cols, 0.02F);
    const PackedMatrix matrix = pack(pool, best_isa(), WeightFormat::int8, weights, cols);
    CHECK(matrix.bytes() == 48 * 256 * 34 / 32);  // padded; 8.5 bits a weight
    const std::vector<float> kept = unpacked(matrix);
    for (std::int64_t o = 0; o < outs; ++o) {
      for (std::int64_t k = 0; k < cols; ++k) {
        const auto first = static_cast<std::size_t>(o * cols + k / kGroup * kGroup);
        const auto end =
            static_cast<std::size_t>(o * cols + std::min(cols, (k / kGroup + 1) * kGroup));
        float top = 0.0F;
        for (std::size_t i = first; i < end; ++i) top = std::max(top, std::abs(weights[i]));
        const auto at = static_cast<std::size_t>(o * cols + k);
        // Half a step, and half of the 2^-8 by which a bf16 scale may be off.
        REQUIRE(std::abs(kept[at] - weights[at]) <= top / 127.0F * 0.505F);
      }
    }
  }

  TEST_CASE("int4 loses less than the nearest steps of a plain scale do") {
    Random random(14);
    ThreadPool pool(2);
    const std::int64_t outs = 64, cols = 512;
    const std::vector<float> weights = random.floats(outs * cols, 0.02F);
    const PackedMatrix matrix = pack(pool, best_isa(), WeightFormat::int4, weights, cols);
    CHECK(matrix.bytes() == outs * cols * 18 / 32);  // 4.5 bits a weight
    const double searched = rms(unpacked(matrix), weights);
    const double plain = rms(nearest_int4(weights), weights);
    MESSAGE("rms error of int4 over that of nearest steps: " << searched / plain);
    CHECK(searched < 0.9 * plain);
    const MatrixRows rows = rows_of(weights, cols);
    const PackingError told = packing_error(pool, matrix, {&rows, 1});
    const double spread = rms(weights, std::vector<float>(weights.size(), 0.0F));
    CHECK(told.rms == doctest::Approx(searched / spread));
    CHECK(told.worst > told.rms);
    CHECK(told.worst < 1.0);
  }

  TEST_CASE("weights on the steps come back as they were") {
    ThreadPool pool(1);
    std::vector<float> weights;
    for (int i = 0; i < 64; ++i) weights.push_back(0.25F * static_cast<float>(i % 16 - 8));
    for (int i = 0; i < 64; ++i) weights.push_back(-0.5F * static_cast<float>(i % 16 - 8));
    CHECK(unpacked(pack(pool, best_isa(), WeightFormat::int4, weights, 64)) == weights);
    for (int i = 0; i < 128; ++i) {
      weights[static_cast<std::size_t>(i)] = 0.125F * static_cast<float>(127 - i % 32 * 8);
    }
    CHECK(unpacked(pack(pool, best_isa(), WeightFormat::int8, weights, 64)) == weights);
  }

  TEST_CASE("groups of zeros and of tiny numbers count as zeros, others are not disturbed") {
    ThreadPool pool(1);
    for (const WeightFormat format : kFormats) {
      for (const Isa isa : test::usable_isas()) {
        std::vector<float> weights(64, 1e-35F);
        weights[40] = 1.0F;
        const PackedMatrix matrix = pack(pool, isa, format, weights, 64);
        const std::vector<float> kept = unpacked(matrix);
        CHECK(std::count(kept.begin(), kept.end(), 0.0F) == 63);
        CHECK(kept[40] == doctest::Approx(1.0F).epsilon(0.01));
        std::vector<float> x(67, 1e-35F);
        CHECK(product(pool, isa, matrix, x, 1)[0] == 0.0F);
        x[40] = 3.0F;
        CHECK(product(pool, isa, matrix, x, 1)[0] == doctest::Approx(3.0F).epsilon(0.01));
      }
    }
  }

  TEST_CASE("what is no number stays none, in a row and in a weight") {
    Random random(15);
    ThreadPool pool(2);
    const std::int64_t cols = 100;
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      for (const WeightFormat format : kFormats) {
        std::vector<float> weights = random.floats(2 * cols);
        std::vector<float> x = random.floats(3 * (cols + 3));
        x[static_cast<std::size_t>(cols + 3 + 70)] = bad;
        for (const Isa isa : test::usable_isas()) {
          CAPTURE(name(isa));
          const auto y = product(pool, isa, pack(pool, isa, format, weights, cols), x, 3);
          CHECK(std::isfinite(y[0]));
          CHECK(std::isnan(y[3]));
          CHECK(std::isnan(y[4]));
          CHECK(std::isfinite(y[6]));
          std::vector<float> broken = weights;
          broken[20] = bad;
          const auto z = product(pool, isa, pack(pool, isa, format, broken, cols), x, 1);
          CHECK_FALSE(std::isfinite(z[0]));
          CHECK(std::isfinite(z[1]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::kernels
