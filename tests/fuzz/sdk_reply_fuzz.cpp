// What a coordinator says is read without trust: events, refusals, lists, earnings.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "http/url.hpp"
#include "sdk/codec.hpp"

// libFuzzer chose the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto chunk = sdk::read_chunk(text)) {
    FARMESH_ASSERT(http::is_utf8(chunk->text));
    if (chunk->usage) {
      for (const NodeUse& node : chunk->usage->nodes_used) FARMESH_ASSERT(!node.layers.empty());
    }
  }
  const MeshError refusal = sdk::read_refusal(404, text);
  FARMESH_ASSERT(refusal.kind == MeshFailure::not_found && !refusal.code.empty());
  static_cast<void>(sdk::read_models(text));
  static_cast<void>(sdk::read_status(text));
  static_cast<void>(sdk::read_earnings(text));
  return 0;
}
