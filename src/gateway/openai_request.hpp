// OpenAI's request bodies, checked: JSON → what a turn needs. Pure functions.
//
// Every field of OpenAI's is served, or refused with its name; none is dropped in silence. Only
// those that tell the server who asks (user, safety_identifier, prompt_cache_key) are checked and
// used for nothing. Beyond OpenAI's own fields: top_k, min_p, repetition_penalty, ignore_eos,
// max_cost_far, tier. docs/http-api.md lists all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <farmesh/money.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

#include "gateway/problem.hpp"

namespace farmesh::gateway {

inline constexpr std::size_t kMaxModelIdBytes = 255;
inline constexpr std::size_t kMaxMessages = 4'096;
inline constexpr std::size_t kMaxPrompts = 64;
inline constexpr std::uint32_t kMaxChoices = 16;   // n
inline constexpr std::size_t kMaxSequences = 128;  // prompts times n
inline constexpr std::size_t kMaxLogitBiases = 1'024;

struct OpenAiOptions {
  std::string model;  // as given: perhaps an alias
  std::optional<std::uint32_t> max_tokens;
  /// Everything but max_tokens. The seed is drawn by the caller when none was given.
  GenerateOptions generate;
  bool has_seed = false;
  std::uint32_t choices = 1;  // n: each has a seed of its own, seed + index
  bool stream = false;
  bool include_usage = false;  // stream_options
  bool include_nodes = false;  // ours: who made the tokens, in the usage
  bool logprobs = false;
  std::string user;             // the client's own name for its user; told to nobody
  std::optional<Far> max_cost;  // max_cost_far: the turn ends before it would cost more
  std::string tier;             // empty: the account's
};

struct ChatRequest {
  OpenAiOptions options;
  std::vector<ChatMessage> messages;
};

/// A text, or token ids as they are.
using Prompt = std::variant<std::string, std::vector<TokenId>>;

struct CompletionRequest {
  OpenAiOptions options;  // max_tokens is 16 unless given
  std::vector<Prompt> prompts;
  bool echo = false;
};

Checked<ChatRequest> parse_chat_request(std::string_view body);
Checked<CompletionRequest> parse_completion_request(std::string_view body);

}  // namespace farmesh::gateway
