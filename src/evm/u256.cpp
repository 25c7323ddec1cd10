#include "evm/u256.hpp"

#include <algorithm>
#include <bit>

#include "base/assert.hpp"

namespace farmesh::evm {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kDecimalChunk = 10'000'000'000'000'000'000U;  // the largest power that fits
constexpr std::size_t kDecimalChunkDigits = 19;

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

U256 U256::from_big_endian(BytesView bytes) noexcept {
  FARMESH_ASSERT(bytes.size() <= 32);
  U256 value;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t place = bytes.size() - 1 - i;
    value.limbs_[place / 8] |= std::uint64_t{bytes[i]} << place % 8 * 8;
  }
  return value;
}

Bytes32 U256::to_big_endian() const noexcept {
  Bytes32 bytes{};
  for (std::size_t place = 0; place < 32; ++place) {
    bytes[31 - place] = static_cast<std::uint8_t>(limbs_[place / 8] >> place % 8 * 8);
  }
  return bytes;
}

Bytes U256::to_minimal_big_endian() const {
  const Bytes32 bytes = to_big_endian();
  const auto first = std::ranges::find_if(bytes, [](std::uint8_t byte) { return byte != 0; });
  return {first, bytes.end()};
}

int U256::bit_length() const noexcept {
  for (std::size_t i = 4; i-- > 0;) {
    if (limbs_[i] != 0) return static_cast<int>(i * 64) + std::bit_width(limbs_[i]);
  }
  return 0;
}

Result<U256> U256::parse_decimal(std::string_view text) {
  const Error malformed{Errc::evm_encoding_invalid, "not a decimal number below 2^256"};
  if (text.empty() || text.size() > 78 || (text.size() > 1 && text[0] == '0')) return malformed;
  U256 value;
  for (const char c : text) {
    if (c < '0' || c > '9') return malformed;
    const std::optional<U256> shifted = checked_multiply(value, 10);
    const std::optional<U256> sum =
        shifted ? checked_add(*shifted, static_cast<std::uint64_t>(c - '0')) : std::nullopt;
    if (!sum) return malformed;
    value = *sum;
  }
  return value;
}

Result<U256> U256::parse_quantity(std::string_view text) {
  const Error malformed{Errc::evm_encoding_invalid, "not a hexadecimal quantity below 2^256"};
  if (!text.starts_with("0x")) return malformed;
  text.remove_prefix(2);
  if (text.empty() || text.size() > 64 || (text.size() > 1 && text[0] == '0')) return malformed;
  U256 value;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int digit = hex_digit(text[i]);
    if (digit < 0) return malformed;
    const std::size_t place = text.size() - 1 - i;
    value.limbs_[place / 16] |= static_cast<std::uint64_t>(digit) << place % 16 * 4;
  }
  return value;
}

std::string U256::to_decimal() const {
  std::string text;  // least significant digit first
  U256 rest = *this;
  do {
    const Quotient step = divide(rest, kDecimalChunk);
    rest = step.quotient;
    std::uint64_t chunk = step.remainder;
    for (std::size_t i = 0; i < kDecimalChunkDigits && (chunk != 0 || !rest.is_zero()); ++i) {
      text += static_cast<char>('0' + chunk % 10);
      chunk /= 10;
    }
  } while (!rest.is_zero());
  if (text.empty()) return "0";
  std::ranges::reverse(text);
  return text;
}

std::string U256::to_quantity() const {
  std::string text = "0x";
  for (int place = std::max(0, (bit_length() - 1) / 4); place >= 0; --place) {
    const auto at = static_cast<std::size_t>(place);
    text += "0123456789abcdef"[limbs_[at / 16] >> at % 16 * 4 & 15];
  }
  return text;
}

std::optional<U256> checked_add(const U256& a, const U256& b) noexcept {
  U256 sum;
  Wide carry = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    carry += Wide{a.limbs_[i]} + b.limbs_[i];
    sum.limbs_[i] = static_cast<std::uint64_t>(carry);
    carry >>= 64;
  }
  if (carry != 0) return std::nullopt;
  return sum;
}

std::optional<U256> checked_subtract(const U256& a, const U256& b) noexcept {
  if (a < b) return std::nullopt;
  U256 difference;
  std::uint64_t borrow = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const Wide taken = Wide{b.limbs_[i]} + borrow;
    difference.limbs_[i] = static_cast<std::uint64_t>(a.limbs_[i] - taken);
    borrow = taken > a.limbs_[i] ? 1 : 0;
  }
  return difference;
}

std::optional<U256> checked_multiply(const U256& a, const U256& b) noexcept {
  U256 product;
  for (std::size_t i = 0; i < 4; ++i) {
    Wide carry = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      if (i + j >= 4) {
        if ((a.limbs_[i] != 0 && b.limbs_[j] != 0) || carry != 0) return std::nullopt;
        continue;
      }
      carry += Wide{a.limbs_[i]} * b.limbs_[j] + product.limbs_[i + j];
      product.limbs_[i + j] = static_cast<std::uint64_t>(carry);
      carry >>= 64;
    }
    if (carry != 0) return std::nullopt;
  }
  return product;
}

U256::Quotient divide(const U256& dividend, std::uint64_t divisor) noexcept {
  FARMESH_ASSERT(divisor != 0);
  U256::Quotient result;
  Wide rest = 0;
  for (std::size_t i = 4; i-- > 0;) {
    rest = rest << 64 | dividend.limbs_[i];
    result.quotient.limbs_[i] = static_cast<std::uint64_t>(rest / divisor);
    rest %= divisor;
  }
  result.remainder = static_cast<std::uint64_t>(rest);
  return result;
}

}  // namespace farmesh::evm
