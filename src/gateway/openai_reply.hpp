// OpenAI's replies: tokens → chunks, whole answers, usage. Pure functions; JSON on one line.
//
// The text of a choice may lag behind its tokens (half a character, or what might be a stop
// string), so a chunk carries the text that became complete and the log-probabilities of the
// tokens since the chunk before.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/session.hpp>

#include "gateway/platform_codec.hpp"

namespace farmesh::gateway {

/// What every chunk of an answer tells.
struct ReplyHead {
  std::string id;            // "chatcmpl-…" or "cmpl-…"
  std::int64_t created = 0;  // Unix seconds
  std::string model;         // the full id
  std::string fingerprint;   // equal ones give equal tokens for equal seeds
  bool include_usage = false;
  std::string cost_far;  // so far, a decimal: a field of ours in chunks; empty leaves it out
};

struct TokenCounts {
  std::uint64_t prompt = 0;
  std::uint64_t completion = 0;
  std::uint64_t cached = 0;     // of the prompt
  std::vector<NodeUsed> nodes;  // who made them, told as a field of ours; empty leaves it out
};

/// A token's own bytes, which need not be whole characters.
using TokenBytes = std::function<std::string(TokenId)>;

/// Nothing for `none` and `cancelled`: OpenAI has no word for them.
std::optional<std::string_view> finish_reason(FinishReason reason) noexcept;

// --- chat
std::string chat_role_chunk(const ReplyHead& head, std::uint32_t index);
/// `tokens`: those whose log-probabilities go along; `with_logprobs` false leaves them null.
std::string chat_chunk(const ReplyHead& head, std::uint32_t index, std::string_view text,
                       std::span<const Token> tokens, bool with_logprobs, const TokenBytes& bytes);
std::string chat_finish_chunk(const ReplyHead& head, std::uint32_t index, FinishReason reason);

// --- completions
/// `text_offset`: characters of the text before the first of `tokens`.
std::string completion_chunk(const ReplyHead& head, std::uint32_t index, std::string_view text,
                             std::span<const Token> tokens, bool with_logprobs,
                             std::size_t text_offset, const TokenBytes& bytes);
std::string completion_finish_chunk(const ReplyHead& head, std::uint32_t index,
                                    FinishReason reason);

/// The last chunk of a stream with `stream_options.include_usage`: no choices.
/// `cost_far`: a decimal, added as a field of ours; empty leaves it out.
std::string usage_chunk(const ReplyHead& head, bool chat, const TokenCounts& counts,
                        std::string_view cost_far);

/// A choice of a whole answer.
struct Choice {
  std::string text;
  FinishReason reason = FinishReason::none;
  std::vector<Token> tokens;  // kept when log-probabilities were asked for
  bool with_logprobs = false;
  std::size_t echoed = 0;  // characters of the prompt that `text` begins with
};
std::string chat_reply(const ReplyHead& head, std::span<const Choice> choices,
                       const TokenCounts& counts, std::string_view cost_far,
                       const TokenBytes& bytes);
std::string completion_reply(const ReplyHead& head, std::span<const Choice> choices,
                             const TokenCounts& counts, std::string_view cost_far,
                             const TokenBytes& bytes);

struct ListedModel {
  std::string id;
  std::int64_t created = 0;
};
std::string model_list(std::span<const ListedModel> models);
std::string model_object(const ListedModel& model);

}  // namespace farmesh::gateway
