#include "weights/content_range.hpp"

#include <charconv>

namespace farmesh::weights {
namespace {

/// The number that `text` begins with, up to `mark` or its end; both are taken off.
std::optional<std::uint64_t> take_number(std::string_view& text, char mark) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc()) return std::nullopt;
  if (mark == '\0') {
    if (stopped != end) return std::nullopt;
    text = {};
    return value;
  }
  if (stopped == end || *stopped != mark) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(stopped - text.data()) + 1);
  return value;
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const auto first = take_number(text, '-');
  const auto last = first ? take_number(text, '/') : std::nullopt;
  const auto length = last ? take_number(text, '\0') : std::nullopt;
  if (!length || *first > *last || *last >= *length) return std::nullopt;
  return ContentRange{*first, *last + 1, *length};
}

}  // namespace farmesh::weights
