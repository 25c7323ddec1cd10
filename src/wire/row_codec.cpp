#include "wire/row_codec.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "base/assert.hpp"
#include "base/float_formats.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace farmesh::wire {
namespace {

constexpr std::size_t kScaleBytes = 2;
constexpr float kSteps = 127;
constexpr std::int8_t kNoStep = -128;

using Block = std::array<float, kRowBlock>;

/// Of `count` values at `from`; the rest of the block is zero.
template <class Element>
void read_block(const std::byte* from, std::size_t count, Block& values) {
  std::array<Element, kRowBlock> elements{};
  std::memcpy(elements.data(), from, count * sizeof(Element));
  if constexpr (sizeof(Element) == sizeof(float)) {
    std::copy(elements.begin(), elements.end(), values.begin());
  } else {
    for (std::size_t i = 0; i < kRowBlock; ++i) values[i] = bf16_to_f32(elements[i]);
  }
}

template <class Element>
void write_block(const Block& values, std::size_t count, std::byte* to) {
  std::array<Element, kRowBlock> elements;
  if constexpr (sizeof(Element) == sizeof(float)) {
    std::copy(values.begin(), values.end(), elements.begin());
  } else {
    for (std::size_t i = 0; i < kRowBlock; ++i) elements[i] = f32_to_bf16(values[i]);
  }
  std::memcpy(to, elements.data(), count * sizeof(Element));
}

/// Of the magnitudes. Bits of floats that are not negative are in the order of the floats.
float largest_of(const Block& values) {
  std::int32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<std::int32_t>(value) & 0x7fffffff);
  }
  return std::bit_cast<float>(largest);
}

/// The least bf16 that is not below a 127th of `largest`, but for the greatest that may be.
std::uint16_t scale_of(float largest) {
  const auto bits = std::bit_cast<std::uint32_t>(largest / kSteps);
  return static_cast<std::uint16_t>(std::min<std::uint32_t>((bits + 0xffff) >> 16, kMaxScale));
}

/// To the nearest whole number, ties to even; |value| is below 2^22. Unlike std::nearbyint() it is
/// computed 8 values at a time without any instruction set being asked for.
float rounded(float value) {
  constexpr float kOnlyWhole = 12'582'912;  // from here to its double, floats are whole numbers
  return (value + kOnlyWhole) - kOnlyWhole;
}

template <class Element>
std::byte* pack_block(const std::byte* from, std::size_t count, std::byte* to) {
  Block values;
  read_block<Element>(from, count, values);
  const std::uint16_t scale = scale_of(largest_of(values));
  std::memcpy(to, &scale, kScaleBytes);
  std::array<std::int8_t, kRowBlock> steps{};
  if (scale != 0) {
    const float step = bf16_to_f32(scale);
    for (std::size_t i = 0; i < kRowBlock; ++i) {
      values[i] = std::min(std::max(rounded(values[i] / step), -kSteps), kSteps);
    }
    for (std::size_t i = 0; i < kRowBlock; ++i) {
      steps[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(values[i]));
    }
  }
  std::memcpy(to + kScaleBytes, steps.data(), count);
  return to + kScaleBytes + count;
}

/// Null when the block cannot be.
template <class Element>
const std::byte* unpack_block(const std::byte* from, std::size_t count, std::byte* to) {
  std::uint16_t scale = 0;
  std::memcpy(&scale, from, kScaleBytes);
  std::array<std::int8_t, kRowBlock> steps{};
  std::memcpy(steps.data(), from + kScaleBytes, count);
  // As bits: above are infinities, NaN and whatever is negative.
  if (scale > kMaxScale) return nullptr;
  std::int8_t least = 0;
  for (const std::int8_t one : steps) least = std::min(least, one);
  if (least == kNoStep) return nullptr;
  Block values;
  const float step = bf16_to_f32(scale);
  for (std::size_t i = 0; i < kRowBlock; ++i) values[i] = static_cast<float>(steps[i]) * step;
  write_block<Element>(values, count, to);
  return from + kScaleBytes + count;
}

template <class Element>
void pack(ByteView rows, std::uint32_t columns, std::byte* to) {
  for (std::size_t at = 0; at < rows.size(); at += columns * sizeof(Element)) {
    for (std::uint32_t column = 0; column < columns; column += kRowBlock) {
      to = pack_block<Element>(rows.data() + at + column * sizeof(Element),
                               std::min(kRowBlock, columns - column), to);
    }
  }
}

template <class Element>
bool unpack(ByteView packed, std::uint32_t count, std::uint32_t columns, std::byte* to) {
  const std::byte* from = packed.data();
  for (std::uint32_t row = 0; row < count; ++row) {
    for (std::uint32_t column = 0; column < columns; column += kRowBlock) {
      const std::size_t width = std::min(kRowBlock, columns - column);
      from = unpack_block<Element>(from, width, to);
      if (from == nullptr) return false;
      to += width * sizeof(Element);
    }
  }
  return true;
}

}  // namespace

Result<Payload> pack_rows(ByteView rows, std::uint32_t columns, DType residual) {
  const std::size_t row_bytes = columns * bytes_of(residual);
  FARMESH_ASSERT(residual == DType::f32 || residual == DType::bf16);
  FARMESH_ASSERT(columns > 0 && rows.size() % row_bytes == 0);
  const Result<void> finite = check_finite(rows, residual);
  if (!finite) return finite.error();
  AlignedBuffer packed(rows.size() / row_bytes * packed_row_bytes(columns));
  if (residual == DType::f32) {
    pack<float>(rows, columns, packed.data());
  } else {
    pack<std::uint16_t>(rows, columns, packed.data());
  }
  return Payload(std::move(packed));
}

Result<Payload> unpack_rows(ByteView packed, std::uint32_t count, std::uint32_t columns,
                            DType residual) {
  FARMESH_ASSERT(residual == DType::f32 || residual == DType::bf16);
  FARMESH_ASSERT(columns > 0 && columns <= kMaxHiddenSize);
  const std::uint64_t row_bytes = columns * bytes_of(residual);
  // Both factors are below 2^32, as a row is below 2^21.
  if (packed.size() != count * std::uint64_t{packed_row_bytes(columns)} ||
      count * row_bytes > kMaxPayloadBytes) {
    return {Errc::bad_shape, "payload of " + std::to_string(packed.size()) + " bytes is not " +
                                 std::to_string(count) + " x " + std::to_string(columns) +
                                 " in blocks of int8"};
  }
  AlignedBuffer rows(static_cast<std::size_t>(count * row_bytes));
  const bool valid = residual == DType::f32
                         ? unpack<float>(packed, count, columns, rows.data())
                         : unpack<std::uint16_t>(packed, count, columns, rows.data());
  if (!valid) return {Errc::bad_payload, "a block of int8 has a scale or byte that cannot be"};
  return Payload(std::move(rows));
}

}  // namespace farmesh::wire
