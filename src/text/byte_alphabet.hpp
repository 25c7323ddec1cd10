// GPT-2's way to write any byte as a printable character, on which byte-level BPE works:
// printable Latin-1 bytes stand for themselves; the other 68 are U+0100 to U+0143 in order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace farmesh::text {

/// The character that stands for each byte.
inline constexpr std::array<char32_t, 256> kByteAlphabet = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    table[byte] = printable ? byte : next++;
  }
  return table;
}();

/// The byte that a character stands for, if it is one of the 256.
constexpr std::optional<std::uint8_t> byte_of(char32_t c) noexcept {
  if (c < 256) {
    if (kByteAlphabet[c] == c) return static_cast<std::uint8_t>(c);
    return std::nullopt;
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (kByteAlphabet[byte] == c) return static_cast<std::uint8_t>(byte);
  }
  return std::nullopt;
}

/// Every byte of `text` as its character, in UTF-8.
std::string to_byte_alphabet(std::string_view text);

}  // namespace farmesh::text
