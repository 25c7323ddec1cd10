// The few words that the library and its callers share: token ids, layer spans, dtypes.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

using TokenId = std::uint32_t;

/// A run of decoder layers, half-open: {0, 11} is layers 0 to 10.
struct Span {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  constexpr std::uint32_t size() const noexcept { return end > begin ? end - begin : 0; }
  constexpr bool empty() const noexcept { return end <= begin; }
  constexpr bool contains(Span other) const noexcept {
    return other.empty() || (begin <= other.begin && other.end <= end);
  }
  friend constexpr auto operator<=>(const Span&, const Span&) = default;
};

/// Element types of weights, activations and caches. Numbers are part of the wire protocol.
enum class DType : std::uint8_t { f32 = 0, bf16 = 1, f16 = 2, i8 = 3, u32 = 4 };

constexpr std::size_t bytes_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
    case DType::u32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::i8: return 1;
  }
  return 0;
}

constexpr std::string_view name(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::i8: return "i8";
    case DType::u32: return "u32";
  }
  return "?";
}

/// What weights are held and multiplied in. int8 and int4 keep one scale per group of 32.
enum class Precision : std::uint8_t { f32 = 0, bf16 = 1, f16 = 2, int8 = 3, int4 = 4 };

constexpr std::string_view name(Precision precision) noexcept {
  switch (precision) {
    case Precision::f32: return "f32";
    case Precision::bf16: return "bf16";
    case Precision::f16: return "f16";
    case Precision::int8: return "int8";
    case Precision::int4: return "int4";
  }
  return "?";
}

}  // namespace farmesh::inline FARMESH_ABI
