// Properties and normal forms of Unicode text, from utf8proc's tables. Text here is valid UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh::text {

bool is_space(char32_t c) noexcept;        // Unicode White_Space
bool is_number(char32_t c) noexcept;       // Nd, Nl, No
bool is_punctuation(char32_t c) noexcept;  // P*, and ASCII's symbols
bool is_mark(char32_t c) noexcept;         // Mn, Mc, Me
bool is_word(char32_t c) noexcept;         // letters, marks, digits, connectors, joiners

bool is_printable(char32_t c) noexcept;  // assigned, and no control, format or separator but ' '

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// Fails with invalid_argument when the result would exceed `max_bytes`.
Result<std::string> normalize(std::string_view text, NormalForm form, std::size_t max_bytes);

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
/// First letter of every word upper case, the others lower case, as Python's str.title().
std::string to_title(std::string_view text);

/// Length in bytes of the white space at the front, and at the back.
std::size_t leading_space(std::string_view text) noexcept;
std::size_t trailing_space(std::string_view text) noexcept;

}  // namespace farmesh::text
