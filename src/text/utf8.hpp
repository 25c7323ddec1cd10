// UTF-8, one character at a time, from bytes nobody has checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace farmesh::text {

inline constexpr char32_t kReplacement = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

struct Utf8Char {
  enum class Kind : std::uint8_t { valid, invalid, incomplete };

  char32_t codepoint = kReplacement;  // U+FFFD unless valid
  std::uint8_t size = 0;              // bytes consumed; 0 only for empty input
  Kind kind = Kind::invalid;

  bool valid() const noexcept { return kind == Kind::valid; }
};

/// The character at the front of `bytes`. Invalid bytes are taken as Unicode recommends: the
/// longest run that could have begun a character is one replacement character. `incomplete`
/// means that the bytes end inside a character that more bytes could complete.
Utf8Char next_char(std::string_view bytes) noexcept;

/// As next_char() for text known to be valid and not empty: no checks, and fast.
inline char32_t next_valid_char(std::string_view text, std::size_t& size) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<char32_t>(text[i] & 0x3F); };
  const auto lead = static_cast<std::uint8_t>(text[0]);
  if (lead < 0x80) return size = 1, lead;
  if (lead < 0xE0) return size = 2, static_cast<char32_t>(lead & 0x1F) << 6 | at(1);
  if (lead < 0xF0) return size = 3, static_cast<char32_t>(lead & 0x0F) << 12 | at(1) << 6 | at(2);
  return size = 4, static_cast<char32_t>(lead & 0x07) << 18 | at(1) << 12 | at(2) << 6 | at(3);
}

/// The last character of valid text that is not empty.
char32_t last_valid_char(std::string_view text) noexcept;

/// Appends one code point, which must not be a surrogate or above U+10FFFF.
void append_utf8(std::string& out, char32_t codepoint);

bool is_valid_utf8(std::string_view bytes) noexcept;

/// `bytes` with everything invalid as U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

/// Number of characters of valid text.
std::size_t count_chars(std::string_view text) noexcept;

}  // namespace farmesh::text
