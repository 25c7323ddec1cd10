// Chat messages to the token ids of a turn: only what the session does not hold yet.
#pragma once

#include <vector>

#include <farmesh/result.hpp>
#include <farmesh/session.hpp>

#include "client/conversation.hpp"
#include "client/shared_model.hpp"

namespace farmesh::client {

/// Renders `messages` and compares with the conversation's transcript. If the text goes on from
/// it, the turn appends; otherwise (an edited message, a template that rewrites earlier turns)
/// the session starts again. Fails as text::ChatTemplate and text::Tokenizer do.
/// On the caller's thread, between turns.
Result<TurnRequest> chat_request(const SharedModel& model, const Conversation& conversation,
                                 const std::vector<ChatMessage>& messages,
                                 const GenerateOptions& options);

}  // namespace farmesh::client
