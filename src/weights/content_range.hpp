// "bytes 0-99/1000": which part of a body an answer of 206 holds (RFC 9110, section 14.4).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace farmesh::weights {

struct ContentRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;     // one past the last byte
  std::uint64_t length = 0;  // of the whole body
};

/// Nothing unless the range is of bytes, not empty, and lies within a length that is told.
std::optional<ContentRange> parse_content_range(std::string_view text);

}  // namespace farmesh::weights
