// What may enter a row: bounded UTF-8 without NUL, UUIDs, layers as SQL has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

namespace farmesh::ledger {

/// Names and ids: printable UTF-8 of 1 (or 0, if `may_be_empty`) to `max_bytes` bytes. Fails with
/// invalid_argument, naming `field`.
Result<void> check_text(std::string_view text, std::size_t max_bytes, std::string_view field,
                        bool may_be_empty = false);

/// Prose: as above, and lines and tabs are allowed. May be empty.
Result<void> check_prose(std::string_view text, std::size_t max_bytes, std::string_view field);

/// A random UUID (RFC 4122, version 4), lower case.
std::string new_uuid();
bool is_uuid(std::string_view text) noexcept;
/// 16 bytes of a UUID's text, which must be one.
std::array<std::uint8_t, 16> uuid_bytes(std::string_view text);
std::string uuid_text(const std::array<std::uint8_t, 16>& bytes);

/// Layers are inclusive in SQL; no layers are 0 to -1.
struct SqlLayers {
  std::int64_t start = 0;
  std::int64_t end = -1;
};
constexpr SqlLayers to_sql(Span span) noexcept { return {span.begin, std::int64_t{span.end} - 1}; }
constexpr Span from_sql(std::int64_t start, std::int64_t end) noexcept {
  return {static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(end + 1)};
}

}  // namespace farmesh::ledger
