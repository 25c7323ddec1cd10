// Addresses of accounts and contracts: 20 bytes, written with the checksum of EIP-55.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh::evm {

struct Address {
  std::array<std::uint8_t, 20> bytes{};

  bool is_zero() const noexcept { return *this == Address{}; }
  friend constexpr auto operator<=>(const Address&, const Address&) = default;
};

/// "0x" and 40 digits whose case is the checksum.
std::string to_string(const Address& address);

/// The same in lower case: the one spelling for keys in tables.
std::string to_lower_case(const Address& address);

/// Either all in lower case, which carries no checksum, or with the exact one. Fails with
/// wallet_invalid.
Result<Address> parse_address(std::string_view text);

}  // namespace farmesh::evm
