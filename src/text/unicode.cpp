#include "text/unicode.hpp"

#include <memory>
#include <vector>

#include <utf8proc.h>

#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

utf8proc_category_t category(char32_t c) noexcept {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

utf8proc_option_t options_of(NormalForm form) noexcept {
  switch (form) {
    case NormalForm::nfc: return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    case NormalForm::nfd:
      return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
    case NormalForm::nfkc:
      return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    case NormalForm::nfkd:
      return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  }
  return UTF8PROC_STABLE;
}

/// Normalises one stretch and appends it. The size is asked for before memory is taken.
Result<void> append_normalized(std::string& out, std::string_view part, utf8proc_option_t options,
                               std::size_t max_bytes) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(part.data());
  const auto count = static_cast<utf8proc_ssize_t>(part.size());
  const utf8proc_ssize_t needed = utf8proc_decompose(bytes, count, nullptr, 0, options);
  if (needed < 0) return {Errc::invalid_argument, utf8proc_errmsg(needed)};
  if (static_cast<std::size_t>(needed) > max_bytes - out.size()) {
    return {Errc::invalid_argument, "the text grows too long when normalised"};
  }
  // utf8proc_reencode() writes UTF-8 over the code points and a NUL after it.
  std::vector<utf8proc_int32_t> buffer(static_cast<std::size_t>(needed) + 1);
  utf8proc_ssize_t got = utf8proc_decompose(bytes, count, buffer.data(), needed, options);
  if (got >= 0) got = utf8proc_reencode(buffer.data(), got, options);
  if (got < 0) return {Errc::invalid_argument, utf8proc_errmsg(got)};
  if (static_cast<std::size_t>(got) > max_bytes - out.size()) {
    return {Errc::invalid_argument, "the text grows too long when normalised"};
  }
  out.append(reinterpret_cast<const char*>(buffer.data()), static_cast<std::size_t>(got));
  return {};
}

template <class Map>
std::string map_chars(std::string_view text, Map map) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::size_t size = 0;
    const char32_t c = next_valid_char(text, size);
    map(out, c);
    text.remove_prefix(size);
  }
  return out;
}

void append_lower(std::string& out, char32_t c) {
  if (c == 0x130) {  // the one letter whose lower case is two characters
    out += "i\xCC\x87";
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

void append_upper(std::string& out, char32_t c) {
  if (c == 0xDF) {
    out += "SS";
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

bool is_cased(char32_t c) noexcept {
  const auto cat = category(c);
  return cat == UTF8PROC_CATEGORY_LU || cat == UTF8PROC_CATEGORY_LL || cat == UTF8PROC_CATEGORY_LT;
}

}  // namespace

bool is_space(char32_t c) noexcept {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_number(char32_t c) noexcept {
  const auto cat = category(c);
  return cat == UTF8PROC_CATEGORY_ND || cat == UTF8PROC_CATEGORY_NL || cat == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) noexcept {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  }
  const auto cat = category(c);
  return cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t c) noexcept {
  const auto cat = category(c);
  return cat == UTF8PROC_CATEGORY_MN || cat == UTF8PROC_CATEGORY_MC || cat == UTF8PROC_CATEGORY_ME;
}

bool is_word(char32_t c) noexcept {
  const auto cat = category(c);
  return (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO) || is_mark(c) ||
         cat == UTF8PROC_CATEGORY_ND || cat == UTF8PROC_CATEGORY_NL ||
         cat == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D;
}

bool is_printable(char32_t c) noexcept {
  const auto cat = category(c);
  return c == ' ' || (cat != UTF8PROC_CATEGORY_CN && cat < UTF8PROC_CATEGORY_ZS);
}

Result<std::string> normalize(std::string_view text, NormalForm form, std::size_t max_bytes) {
  const utf8proc_option_t options = options_of(form);
  const auto ascii = [&](std::size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
  std::string out;
  out.reserve(text.size());
  std::size_t i = 0;
  while (i < text.size()) {
    // ASCII stays as it is, but its last character may compose with the mark that follows; and
    // no character composes with an ASCII one after it, so a stretch ends safely there.
    std::size_t end = i;
    while (end < text.size() && ascii(end)) ++end;
    const std::size_t plain = end == text.size() || end == i ? end - i : end - i - 1;
    if (plain > max_bytes - out.size()) {
      return {Errc::invalid_argument, "the text grows too long when normalised"};
    }
    out.append(text.substr(i, plain));
    while (end < text.size() && !ascii(end)) ++end;
    const std::string_view part = text.substr(i + plain, end - i - plain);
    if (!part.empty()) {
      const Result<void> done = append_normalized(out, part, options, max_bytes);
      if (!done) return done.error();
    }
    i = end;
  }
  return out;
}

std::string to_lower(std::string_view text) { return map_chars(text, append_lower); }

std::string to_upper(std::string_view text) { return map_chars(text, append_upper); }

std::string to_title(std::string_view text) {
  bool inside_word = false;
  return map_chars(text, [&](std::string& out, char32_t c) {
    if (inside_word) {
      append_lower(out, c);
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
    }
    inside_word = is_cased(c);
  });
}

std::size_t leading_space(std::string_view text) noexcept {
  std::size_t done = 0;
  while (done < text.size()) {
    std::size_t size = 0;
    if (!is_space(next_valid_char(text.substr(done), size))) break;
    done += size;
  }
  return done;
}

std::size_t trailing_space(std::string_view text) noexcept {
  std::size_t kept = text.size();
  while (kept > 0) {
    const std::string_view head = text.substr(0, kept);
    const char32_t last = last_valid_char(head);
    if (!is_space(last)) break;
    kept -= last < 0x80 ? 1 : last < 0x800 ? 2 : 3;
  }
  return text.size() - kept;
}

}  // namespace farmesh::text
