// Any text as a URL, a query and percent-coded text. What is accepted must come back the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "http/url.hpp"

// libFuzzer chose the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh::http;
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  if (const auto url = parse_url(text)) {
    const auto again = parse_url(url->to_string());
    FARMESH_ASSERT(again && again->to_string() == url->to_string());
    FARMESH_ASSERT(is_sendable(url->target()));
  }
  const Url base = *parse_url("https://a/b/c?d");
  if (const auto url = resolve(base, text)) FARMESH_ASSERT(parse_url(url->to_string()));
  if (const auto decoded = percent_decode(text)) {
    FARMESH_ASSERT(is_utf8(*decoded));
    FARMESH_ASSERT(percent_decode(percent_encode(*decoded)) == *decoded);
  }
  if (const auto query = parse_query(text)) {
    for (const auto& [name, value] : query->parameters) FARMESH_ASSERT(is_utf8(name + value));
  }
  return 0;
}
