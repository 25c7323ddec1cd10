// The few words that the library and its callers share: token ids, layer spans, precisions.
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>

namespace farmesh {

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

}  // namespace farmesh
