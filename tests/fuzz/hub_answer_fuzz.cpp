// Any bytes as a Content-Range, and as the marks of a folder that is fetched: what is accepted
// keeps its own bounds, and marks say the same after another round.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "weights/content_range.hpp"
#include "weights/piece_store.hpp"

using namespace farmesh;  // NOLINT: a program of one function

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto range = weights::parse_content_range(text)) {
    if (range->begin >= range->end || range->end > range->length) std::abort();
  }
  if (const auto state = weights::parse_state(text)) {
    for (const auto& [name, file] : state->files) {
      if (name.find('/') != std::string::npos) std::abort();
      const std::uint64_t pieces = (file.length + state->piece_bytes - 1) / state->piece_bytes;
      if (file.have.size() != pieces) std::abort();
    }
    const std::string encoded = weights::encode_state(*state);
    const auto again = weights::parse_state(encoded);
    if (!again || weights::encode_state(*again) != encoded) std::abort();
  }
  return 0;
}
