#include "text/utf8.hpp"

#include <algorithm>
#include <cstring>

namespace farmesh::text {
namespace {

constexpr bool is_continuation(char byte) noexcept {
  return (static_cast<std::uint8_t>(byte) & 0xC0) == 0x80;
}

/// What may follow a lead byte: how many bytes, and the range of the first of them, which
/// excludes overlong forms, surrogates and code points above U+10FFFF.
struct Lead {
  std::uint8_t following;
  std::uint8_t first_low;
  std::uint8_t first_high;
};

constexpr Lead lead_of(std::uint8_t byte) noexcept {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {0, 0, 0};
}

/// Bytes of ASCII at the front, eight at a time.
std::size_t ascii_prefix(std::string_view bytes) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (i < bytes.size() && static_cast<std::uint8_t>(bytes[i]) < 0x80) ++i;
  return i;
}

}  // namespace

Utf8Char next_char(std::string_view bytes) noexcept {
  using Kind = Utf8Char::Kind;
  if (bytes.empty()) return {};
  const auto first = static_cast<std::uint8_t>(bytes[0]);
  if (first < 0x80) return {first, 1, Kind::valid};
  const Lead lead = lead_of(first);
  if (lead.following == 0) return {kReplacement, 1, Kind::invalid};
  char32_t codepoint = first & (0x3Fu >> lead.following);
  for (std::uint8_t i = 1; i <= lead.following; ++i) {
    if (i == bytes.size()) return {kReplacement, i, Kind::incomplete};
    const auto byte = static_cast<std::uint8_t>(bytes[i]);
    const std::uint8_t low = i == 1 ? lead.first_low : 0x80;
    const std::uint8_t high = i == 1 ? lead.first_high : 0xBF;
    if (byte < low || byte > high) return {kReplacement, i, Kind::invalid};
    codepoint = codepoint << 6 | (byte & 0x3F);
  }
  return {codepoint, static_cast<std::uint8_t>(lead.following + 1), Kind::valid};
}

char32_t last_valid_char(std::string_view text) noexcept {
  std::size_t start = text.size() - 1;
  while (start > 0 && is_continuation(text[start])) --start;
  std::size_t size = 0;
  return next_valid_char(text.substr(start), size);
}

void append_utf8(std::string& out, char32_t codepoint) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (codepoint < 0x80) {
    put(codepoint);
  } else if (codepoint < 0x800) {
    put(0xC0 | codepoint >> 6);
    put(0x80 | (codepoint & 0x3F));
  } else if (codepoint < 0x10000) {
    put(0xE0 | codepoint >> 12);
    put(0x80 | (codepoint >> 6 & 0x3F));
    put(0x80 | (codepoint & 0x3F));
  } else {
    put(0xF0 | codepoint >> 18);
    put(0x80 | (codepoint >> 12 & 0x3F));
    put(0x80 | (codepoint >> 6 & 0x3F));
    put(0x80 | (codepoint & 0x3F));
  }
}

bool is_valid_utf8(std::string_view bytes) noexcept {
  while (true) {
    bytes.remove_prefix(ascii_prefix(bytes));
    if (bytes.empty()) return true;
    const Utf8Char c = next_char(bytes);
    if (!c.valid()) return false;
    bytes.remove_prefix(c.size);
  }
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const std::size_t ascii = ascii_prefix(bytes);
    out.append(bytes.substr(0, ascii));
    bytes.remove_prefix(ascii);
    if (bytes.empty()) break;
    const Utf8Char c = next_char(bytes);
    out.append(c.valid() ? bytes.substr(0, c.size) : kReplacementUtf8);
    bytes.remove_prefix(c.size);
  }
  return out;
}

std::size_t count_chars(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

}  // namespace farmesh::text
