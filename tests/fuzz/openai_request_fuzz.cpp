// Any bytes as a body of /v1/chat/completions or /v1/completions: refused, or within its bounds.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "gateway/openai_request.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  if (const auto chat = gateway::parse_chat_request(body)) {
    FARMESH_ASSERT(!chat->messages.empty() && chat->messages.size() <= gateway::kMaxMessages);
    FARMESH_ASSERT(chat->options.choices <= gateway::kMaxChoices);
    FARMESH_ASSERT(chat->options.generate.stop.size() <= 16);
  } else {
    FARMESH_ASSERT(chat.problem().status == 400 || chat.problem().status == 413);
    (void)gateway::openai_error(chat.problem());
  }
  if (const auto completion = gateway::parse_completion_request(body)) {
    FARMESH_ASSERT(!completion->prompts.empty());
    FARMESH_ASSERT(completion->prompts.size() * completion->options.choices <=
                   gateway::kMaxSequences);
  }
  return 0;
}
