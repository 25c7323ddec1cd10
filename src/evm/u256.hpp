// Unsigned 256-bit integers: amounts, fees and ABI words. Nothing wraps and nothing rounds
// silently, and no floating point comes near them.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "evm/bytes.hpp"

namespace farmesh::evm {

class U256 {
 public:
  constexpr U256() = default;
  constexpr U256(std::uint64_t value) : limbs_{value, 0, 0, 0} {}  // NOLINT: implicit

  static constexpr U256 max() noexcept {
    U256 value;
    value.limbs_.fill(~std::uint64_t{0});
    return value;
  }

  /// At most 32 bytes, most significant first.
  static U256 from_big_endian(BytesView bytes) noexcept;
  Bytes32 to_big_endian() const noexcept;
  /// Without leading zero bytes; nothing for 0. What RLP holds.
  Bytes to_minimal_big_endian() const;

  /// Digits only, no leading zero, at most 2^256 - 1. Fails with evm_encoding_invalid.
  static Result<U256> parse_decimal(std::string_view text);
  /// A JSON-RPC quantity: "0x", no leading zero, either case. Fails with evm_encoding_invalid.
  static Result<U256> parse_quantity(std::string_view text);
  std::string to_decimal() const;
  std::string to_quantity() const;

  /// Nothing when it needs more than 64 bits.
  constexpr std::optional<std::uint64_t> to_uint64() const noexcept {
    if ((limbs_[1] | limbs_[2] | limbs_[3]) != 0) return std::nullopt;
    return limbs_[0];
  }
  constexpr bool is_zero() const noexcept { return *this == U256(); }
  int bit_length() const noexcept;

  friend constexpr bool operator==(const U256&, const U256&) = default;
  friend constexpr std::strong_ordering operator<=>(const U256& a, const U256& b) noexcept {
    for (std::size_t i = 4; i-- > 0;) {
      if (a.limbs_[i] != b.limbs_[i]) return a.limbs_[i] <=> b.limbs_[i];
    }
    return std::strong_ordering::equal;
  }

  /// Nothing when the result would be below 0 or above 2^256 - 1.
  friend std::optional<U256> checked_add(const U256& a, const U256& b) noexcept;
  friend std::optional<U256> checked_subtract(const U256& a, const U256& b) noexcept;
  friend std::optional<U256> checked_multiply(const U256& a, const U256& b) noexcept;

  struct Quotient;
  /// Rounds down. `divisor` is not 0.
  friend Quotient divide(const U256& dividend, std::uint64_t divisor) noexcept;

 private:
  std::array<std::uint64_t, 4> limbs_{};  // least significant first
};

struct U256::Quotient {
  U256 quotient;
  std::uint64_t remainder = 0;
};

std::optional<U256> checked_add(const U256& a, const U256& b) noexcept;
std::optional<U256> checked_subtract(const U256& a, const U256& b) noexcept;
std::optional<U256> checked_multiply(const U256& a, const U256& b) noexcept;
U256::Quotient divide(const U256& dividend, std::uint64_t divisor) noexcept;

}  // namespace farmesh::evm
