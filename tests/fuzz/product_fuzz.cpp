// Products of any shape and format over weights and rows of any bits: every instruction set gives
// the bits of the portable one, NaN for NaN, and every row the same alone, in company and made
// while it is packed.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "kernels/packed_matrix.hpp"

namespace {

using namespace farmesh;           // NOLINT: a program of one file
using namespace farmesh::kernels;  // NOLINT

/// `count` floats from the input's bytes, over and over; zeros of an empty input.
std::vector<float> floats(const std::uint8_t* data, std::size_t size, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  if (size < sizeof(float)) return values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(&values[i], data + i * sizeof(float) % (size - sizeof(float) + 1), sizeof(float));
  }
  return values;
}

bool same(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  constexpr WeightFormat kFormats[] = {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8,
                                       WeightFormat::int4};
  const WeightFormat format = kFormats[data[0] % 4];
  const std::int64_t rows = 1 + data[1] % 24;
  const std::int64_t outs = 1 + data[2] % 50;
  const std::int64_t cols = 1 + data[3];
  const std::vector<float> weights = floats(data + 4, size - 4, outs * cols);
  std::vector<float> x =
      floats(data + 4 + (size - 4) / 2, (size - 4) - (size - 4) / 2, rows * cols);

  static ThreadPool pool(1);
  const MatrixRows parts{DType::f32, reinterpret_cast<const std::byte*>(weights.data()), outs};
  std::vector<float> expected;
  for (const Isa isa : kIsas) {
    if (!usable(isa)) continue;
    const KernelTable& table = kernel_table(isa);
    const PackedMatrix matrix = PackedMatrix::pack(pool, table, format, {&parts, 1}, cols);
    std::vector<float> y(static_cast<std::size_t>(rows * outs));
    multiply(pool, table, {x.data(), cols, rows}, matrix, nullptr, {y.data(), outs, rows});
    if (expected.empty()) expected = y;
    for (std::size_t i = 0; i < y.size(); ++i) FARMESH_ASSERT(same(y[i], expected[i]));
    const auto as_it_is = [cols](const float* row, float* made) {
      std::memcpy(made, row, static_cast<std::size_t>(cols) * sizeof(float));
    };
    std::vector<float> made(y.size());
    multiply(pool, table, {x.data(), cols, rows}, as_it_is, matrix, nullptr,
             {made.data(), outs, rows});
    for (std::size_t i = 0; i < y.size(); ++i) FARMESH_ASSERT(same(made[i], expected[i]));
    for (std::int64_t row = 0; row < rows; ++row) {
      std::vector<float> alone(static_cast<std::size_t>(outs));
      multiply(pool, table, {x.data() + row * cols, cols, 1}, matrix, nullptr,
               {alone.data(), outs, 1});
      for (std::int64_t out = 0; out < outs; ++out) {
        FARMESH_ASSERT(same(alone[static_cast<std::size_t>(out)],
                            expected[static_cast<std::size_t>(row * outs + out)]));
      }
    }
  }
  return 0;
}
