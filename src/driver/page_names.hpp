// Names for the KV pages of a token prefix, so that peers find pages they hold already without
// learning what is in them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace farmesh::driver {

/// One name for each full page of `ids`, first to last, at most wire::kMaxPageNames:
/// name[i] = HMAC-SHA-256(key, name[i - 1] | ids of page i, u32 little-endian), its first 16
/// bytes; name[-1] is 16 zero bytes. A name therefore stands for everything up to its page's end,
/// and only holders of the key can tell what. Empty without a key or a page size.
std::vector<PageName> page_names(std::span<const std::uint8_t> key, std::span<const TokenId> ids,
                                 std::uint32_t page_tokens);

}  // namespace farmesh::driver
