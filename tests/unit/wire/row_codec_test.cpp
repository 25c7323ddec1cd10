#include "wire/row_codec.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "base/float_formats.hpp"
#include "wire/frame.hpp"

namespace farmesh::wire {
namespace {

using Values = std::vector<float>;

/// `values` as rows in `residual`.
std::vector<std::byte> rows_of(const Values& values, DType residual) {
  std::vector<std::byte> rows(values.size() * bytes_of(residual));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t half = f32_to_bf16(values[i]);
    if (residual == DType::f32) {
      std::memcpy(rows.data() + i * sizeof(float), &values[i], sizeof(float));
    } else {
      std::memcpy(rows.data() + i * sizeof half, &half, sizeof half);
    }
  }
  return rows;
}

Values values_of(ByteView rows, DType residual) {
  Values values(rows.size() / bytes_of(residual));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t half = 0;
    if (residual == DType::f32) {
      std::memcpy(&values[i], rows.data() + i * sizeof(float), sizeof(float));
    } else {
      std::memcpy(&half, rows.data() + i * sizeof half, sizeof half);
      values[i] = bf16_to_f32(half);
    }
  }
  return values;
}

Values there_and_back(const Values& values, std::uint32_t columns, DType residual) {
  const Result<Payload> packed = pack_rows(rows_of(values, residual), columns, residual);
  REQUIRE(packed);
  const auto count = static_cast<std::uint32_t>(values.size() / columns);
  CHECK(packed->size() == count * packed_row_bytes(columns));
  const Result<Payload> rows = unpack_rows(packed->view(), count, columns, residual);
  REQUIRE(rows);
  return values_of(rows->view(), residual);
}

/// One block of `scale` and `bytes`.
std::vector<std::byte> block(std::uint16_t scale, const std::vector<int>& bytes) {
  std::vector<std::byte> all{std::byte(scale & 0xff), std::byte(scale >> 8)};
  for (const int byte : bytes) all.push_back(static_cast<std::byte>(byte));
  return all;
}

constexpr DType kResiduals[] = {DType::f32, DType::bf16};

}  // namespace

TEST_SUITE("wire/row_codec") {
  TEST_CASE("a row takes a byte a value and two for each 32, the last short ones included") {
    CHECK(packed_row_bytes(1) == 3);
    CHECK(packed_row_bytes(32) == 34);
    CHECK(packed_row_bytes(33) == 37);
    CHECK(packed_row_bytes(4'096) == 4'096 * 17 / 16);
  }

  TEST_CASE("a block is its scale, little-endian, and a signed byte a value") {
    const Result<Payload> packed =
        pack_rows(rows_of({127, -1, 2.5F, 63.5F}, DType::f32), 4, DType::f32);
    REQUIRE(packed);
    // 1.0 is 0x3f80; halves go to the even step.
    const auto expected = block(0x3f80, {127, -1, 2, 64});
    CHECK(std::vector(packed->view().begin(), packed->view().end()) == expected);
  }

  TEST_CASE("values of any shape and size come back within half a step of their block") {
    std::mt19937 random(1);
    for (const DType residual : kResiduals) {
      for (const std::uint32_t columns : {1U, 2U, 31U, 32U, 33U, 64U, 95U, 128U, 515U}) {
        for (const std::uint32_t count : {1U, 2U, 7U}) {
          const float size = std::ldexp(1.0F, static_cast<int>(random() % 200) - 100);
          std::normal_distribution<float> normal(0, size);
          Values values(std::size_t{columns} * count);
          for (float& value : values) value = normal(random);
          const Values exact = values_of(rows_of(values, residual), residual);
          const Values back = there_and_back(values, columns, residual);
          for (std::size_t row = 0; row < count; ++row) {
            for (std::size_t at = 0; at < columns; at += kRowBlock) {
              const std::size_t begin = row * columns + at;
              const std::size_t end = begin + std::min<std::size_t>(kRowBlock, columns - at);
              float largest = 0;
              for (std::size_t i = begin; i < end; ++i) {
                largest = std::max(largest, std::abs(exact[i]));
              }
              // The scale is rounded up to bf16; the values are once more where that is theirs.
              const float step = largest / 127 * (1 + 0x1p-7F);
              const float own = residual == DType::bf16 ? largest * 0x1p-8F : 0;
              for (std::size_t i = begin; i < end; ++i) {
                CHECK(std::abs(back[i] - exact[i]) <= step / 2 * (1 + 1e-5F) + own);
              }
            }
          }
        }
      }
    }
  }

  TEST_CASE("zeros stay zeros, and what is too small for a scale becomes one") {
    for (const DType residual : kResiduals) {
      CHECK(there_and_back(Values(40, 0.0F), 40, residual) == Values(40, 0.0F));
    }
    const float least = std::numeric_limits<float>::denorm_min();
    CHECK(there_and_back({least, 0, -least}, 3, DType::f32) == Values{0, 0, 0});
  }

  TEST_CASE("the largest values stay finite") {
    for (const DType residual : kResiduals) {
      const float largest =
          residual == DType::f32 ? std::numeric_limits<float>::max() : bf16_to_f32(0x7f7f);
      const Values back = there_and_back({largest, -largest, 0}, 3, residual);
      CHECK(std::isfinite(back[0]));
      CHECK(back[0] == doctest::Approx(largest).epsilon(0.008));
      CHECK(back[1] == -back[0]);
      CHECK(back[2] == 0);
    }
  }

  TEST_CASE("NaN and infinity are refused, wherever they are") {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const DType residual : kResiduals) {
      for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
        for (const std::size_t at : {0U, 31U, 32U, 69U}) {
          Values values(70, 1.0F);
          values[at] = bad;
          const Result<Payload> packed = pack_rows(rows_of(values, residual), 35, residual);
          REQUIRE_FALSE(packed);
          CHECK(packed.error().code == Errc::bad_payload);
        }
      }
    }
  }

  TEST_CASE("rows that are rounded again move by half a step at most") {
    const Values once = there_and_back({0.3F, -1.7F, 0.02F, 5.5F}, 4, DType::f32);
    const Values twice = there_and_back(once, 4, DType::f32);
    for (std::size_t i = 0; i < once.size(); ++i) {
      CHECK(std::abs(twice[i] - once[i]) <= 5.5F / 127 * (1 + 0x1p-7F) / 2);
    }
  }

  TEST_CASE("a size that is not count rows is refused, and one beyond a payload") {
    const std::vector<std::byte> row(packed_row_bytes(33));
    CHECK(unpack_rows(row, 1, 33, DType::f32));
    for (const std::uint32_t count : {0U, 2U, UINT32_MAX}) {
      const Result<Payload> rows = unpack_rows(row, count, 33, DType::f32);
      REQUIRE_FALSE(rows);
      CHECK(rows.error().code == Errc::bad_shape);
    }
    CHECK_FALSE(unpack_rows(ByteView(row).first(36), 1, 33, DType::f32));
    constexpr std::uint32_t kColumns = 1U << 18;
    const std::vector<std::byte> wide(65 * packed_row_bytes(kColumns));
    const Result<Payload> rows = unpack_rows(wide, 65, kColumns, DType::f32);
    REQUIRE_FALSE(rows);
    CHECK(rows.error().code == Errc::bad_shape);
    CHECK(unpack_rows({}, 0, 33, DType::f32)->empty());
  }

  TEST_CASE("scales and bytes that cannot be are refused, the greatest ones are finite") {
    for (const DType residual : kResiduals) {
      const Result<Payload> most = unpack_rows(block(kMaxScale, {127, -127, 0}), 1, 3, residual);
      REQUIRE(most);
      CHECK(std::isfinite(values_of(most->view(), residual)[0]));
      for (const int scale : {kMaxScale + 1, 0x7f80, 0x7fc0, 0x8000, 0xbf80, 0xffff}) {
        const auto bytes = block(static_cast<std::uint16_t>(scale), {0, 0, 0});
        const Result<Payload> rows = unpack_rows(bytes, 1, 3, residual);
        REQUIRE_FALSE(rows);
        CHECK(rows.error().code == Errc::bad_payload);
      }
      CHECK_FALSE(unpack_rows(block(0x3f80, {1, 2, -128}), 1, 3, residual));
    }
  }
}

}  // namespace farmesh::wire
