// Far: an amount of $FAR, exactly.
//
// A whole number of base units of 1e-8 $FAR in 64 bits, so up to 92,233,720,368.54775807 $FAR:
// ninety times what will ever exist. Sums and products that would not fit give nothing, never a
// wrong number. Text is decimal both ways and never goes through a double. Header-only.
#pragma once

#include <charconv>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

class Far {
 public:
  static constexpr std::int64_t kUnitsPerFar = 100'000'000;
  static constexpr int kDecimals = 8;

  constexpr Far() = default;
  static constexpr Far from_units(std::int64_t units) noexcept { return Far(units); }

  /// The amount that `text` names: an optional minus, digits without leading zeros, and perhaps a
  /// point with 1 to 8 decimals, as JSON writes numbers without an exponent. Nothing for other
  /// text, more decimals, or an amount beyond 64 bits.
  static constexpr std::optional<Far> parse(std::string_view text) noexcept {
    const bool negative = !text.empty() && text.front() == '-';
    if (negative) text.remove_prefix(1);
    const std::size_t point = text.find('.');
    const std::string_view whole = text.substr(0, point);
    const std::string_view decimals =
        point == std::string_view::npos ? std::string_view() : text.substr(point + 1);
    if (whole.empty() || (whole.size() > 1 && whole.front() == '0')) return std::nullopt;
    if (point != std::string_view::npos && (decimals.empty() || decimals.size() > kDecimals)) {
      return std::nullopt;
    }
    std::int64_t units = 0;  // counted downwards, since the negative range is one larger
    const auto take = [&units](char digit) {
      return digit >= '0' && digit <= '9' && !__builtin_mul_overflow(units, 10, &units) &&
             !__builtin_sub_overflow(units, digit - '0', &units);
    };
    for (const char digit : whole) {
      if (!take(digit)) return std::nullopt;
    }
    for (std::size_t i = 0; i < kDecimals; ++i) {
      if (!take(i < decimals.size() ? decimals[i] : '0')) return std::nullopt;
    }
    if (!negative && __builtin_sub_overflow(0, units, &units)) return std::nullopt;
    return Far(units);
  }

  constexpr std::int64_t units() const noexcept { return units_; }
  constexpr bool is_zero() const noexcept { return units_ == 0; }
  constexpr bool is_negative() const noexcept { return units_ < 0; }

  /// "0.0512": also an exact JSON number literal. At least `min_decimals` decimals, at most 8, and
  /// no zeros at the end beyond those.
  std::string to_string(int min_decimals = 0) const {
    const auto magnitude =
        units_ < 0 ? 0 - static_cast<std::uint64_t>(units_) : static_cast<std::uint64_t>(units_);
    char digits[24];
    char* const end = std::to_chars(digits, digits + sizeof digits, magnitude).ptr;
    std::string all(digits, end);
    if (all.size() <= kDecimals) all.insert(0, kDecimals + 1 - all.size(), '0');
    std::string decimals = all.substr(all.size() - kDecimals);
    while (static_cast<int>(decimals.size()) > min_decimals && decimals.ends_with('0')) {
      decimals.pop_back();
    }
    std::string text = (units_ < 0 ? "-" : "") + all.substr(0, all.size() - kDecimals);
    if (!decimals.empty()) text += '.' + decimals;
    return text;
  }

  constexpr std::optional<Far> plus(Far other) const noexcept {
    Far sum;
    if (__builtin_add_overflow(units_, other.units_, &sum.units_)) return std::nullopt;
    return sum;
  }
  constexpr std::optional<Far> minus(Far other) const noexcept {
    Far difference;
    if (__builtin_sub_overflow(units_, other.units_, &difference.units_)) return std::nullopt;
    return difference;
  }
  constexpr std::optional<Far> times(std::int64_t count) const noexcept {
    Far product;
    if (__builtin_mul_overflow(units_, count, &product.units_)) return std::nullopt;
    return product;
  }

  friend constexpr auto operator<=>(const Far&, const Far&) = default;

 private:
  explicit constexpr Far(std::int64_t units) noexcept : units_(units) {}

  std::int64_t units_ = 0;
};

}  // namespace farmesh::inline FARMESH_ABI
