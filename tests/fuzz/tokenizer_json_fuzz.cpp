// Any bytes as tokenizer.json: it is refused, or encodes and decodes within its bounds.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "text/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = text::parse_tokenizer_json(bytes);
  if (!tokenizer) return 0;
  constexpr std::string_view kText = "Hello  wörld's 12345\n\t🙂 <x>ab aab\xFF";
  for (const std::string_view input : {kText, bytes.substr(0, 256)}) {
    for (const bool special : {false, true}) {
      const auto ids = (*tokenizer)->encode(input, {special, special});
      if (!ids) continue;
      for (const TokenId id : *ids) FARMESH_ASSERT(id < (*tokenizer)->vocab_size());
      text::decode(*tokenizer, *ids);
    }
  }
  return 0;
}
