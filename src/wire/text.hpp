// Text that strangers send and people read: printable UTF-8, or refused.
//
// Such text ends in logs, terminals and JSON, where a control character or half a character
// would do harm.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace farmesh::wire {

/// Well-formed UTF-8 (no overlong forms, no surrogates) without C0, DEL or C1 controls.
bool is_printable(std::string_view text) noexcept;

/// `text` cut to `max_bytes` at a character, with '?' for every byte that is not printable.
std::string printable(std::string_view text, std::size_t max_bytes);

}  // namespace farmesh::wire
