#include "client/chat.hpp"

#include <string_view>
#include <utility>

namespace farmesh::client {

Result<TurnRequest> chat_request(const SharedModel& model, const Conversation& conversation,
                                 const std::vector<ChatMessage>& messages,
                                 const GenerateOptions& options) {
  if (!model.chat_template) return model.chat_template.error();
  std::vector<text::ChatMessage> plain;
  for (const ChatMessage& message : messages) plain.push_back({message.role, message.content});
  Result<std::string> text = model.chat_template->render(plain, true);
  if (!text) return text.error();

  TurnRequest request;
  request.options = options;
  const std::optional<std::string>& known = conversation.transcript();
  request.restart = !known || !text->starts_with(*known);
  const std::string_view fresh =
      request.restart ? *text : std::string_view(*text).substr(known->size());

  // The template writes the special tokens that the text needs.
  text::EncodeOptions encoding;
  encoding.add_special = false;
  encoding.parse_special = true;
  Result<std::vector<TokenId>> ids = model.tokenizer->encode(fresh, encoding);
  if (!ids) return ids.error();
  request.ids = *std::move(ids);

  // The reply ended with its end token, and the template writes that token after it.
  const std::vector<TokenId>& held = conversation.ids();
  if (!request.restart && !request.ids.empty() && !held.empty() &&
      held.back() == request.ids.front() && model.tokenizer->is_special(held.back())) {
    request.ids.erase(request.ids.begin());
  }
  request.transcript = *std::move(text);
  return request;
}

}  // namespace farmesh::client
