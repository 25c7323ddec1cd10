#include "driver/page_names.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "wire/messages.hpp"

namespace farmesh::driver {

std::vector<PageName> page_names(std::span<const std::uint8_t> key, std::span<const TokenId> ids,
                                 std::uint32_t page_tokens) {
  std::vector<PageName> names;
  if (key.empty() || page_tokens == 0) return names;
  const std::size_t pages = std::min(ids.size() / page_tokens, wire::kMaxPageNames);
  PageName name;
  std::vector<std::uint8_t> text;
  for (std::size_t page = 0; page < pages; ++page) {
    text.assign(name.bytes.begin(), name.bytes.end());
    for (const TokenId id : ids.subspan(page * page_tokens, page_tokens)) {
      for (int shift = 0; shift < 32; shift += 8)
        text.push_back(static_cast<std::uint8_t>(id >> shift));
    }
    const Sha256Digest digest = hmac_sha256(std::as_bytes(key), std::as_bytes(std::span(text)));
    std::copy_n(digest.begin(), name.bytes.size(), name.bytes.begin());
    names.push_back(name);
  }
  return names;
}

}  // namespace farmesh::driver
