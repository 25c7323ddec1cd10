#include "client/chat.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace farmesh::client {
namespace {

// How much of `text` the transcript covers: all of the transcript, or nothing. Templates write a
// reply right behind its mark or after a space, which the reply as it was shown does not have.
std::size_t known_length(const std::optional<Transcript>& known, std::string_view text) {
  if (!known || !text.starts_with(known->prompt)) return 0;
  const std::string_view rest = text.substr(known->prompt.size());
  for (const std::string& reply : {known->reply, " " + known->reply}) {
    if (rest.starts_with(reply)) return known->prompt.size() + reply.size();
  }
  return 0;
}

}  // namespace

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
  const std::size_t known = known_length(conversation.transcript(), *text);
  request.restart = known == 0;
  const std::string_view fresh = std::string_view(*text).substr(known);

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
  request.transcript = Transcript{*std::move(text), {}};
  return request;
}

}  // namespace farmesh::client
