// Any bytes as a chat template: it is refused, or renders or fails within its bounds.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "text/chat_template.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto chat = text::ChatTemplate::parse(source, {.bos = "<s>", .eos = "</s>"});
  if (!chat) return 0;
  const auto rendered = chat->render({{"system", "Be brief."},
                                      {"user", "  What is 2+2? \n\xFF"},
                                      {"assistant", "<think>\nso\n</think>\n\nFour."},
                                      {"user", "日本語"}},
                                     true);
  if (rendered) FARMESH_ASSERT(rendered->size() <= text::kMaxRenderedBytes);
  return 0;
}
