// The byte strings of an EVM chain, and their "0x…" text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::evm {

using Bytes = std::vector<std::uint8_t>;
using BytesView = std::span<const std::uint8_t>;
using Bytes32 = std::array<std::uint8_t, 32>;

inline BytesView view_of(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline void append(Bytes& to, BytesView more) { to.insert(to.end(), more.begin(), more.end()); }

/// "0x" and two lower-case digits a byte.
std::string to_hex0x(BytesView bytes);

/// Any even number of digits after "0x". Fails with evm_encoding_invalid, also above `max_bytes`.
Result<Bytes> parse_hex0x(std::string_view text, std::size_t max_bytes);

/// Exactly `out.size()` bytes after "0x"; `out` is unspecified after a failure.
Result<void> parse_hex0x_into(std::string_view text, std::span<std::uint8_t> out);

}  // namespace farmesh::evm
