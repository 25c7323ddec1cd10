#include "gateway/openai_reply.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "gateway/json_writer.hpp"
#include "text/utf8.hpp"

namespace farmesh::gateway {
namespace {

// A client's float cannot hold minus infinity; OpenAI writes -9999 for what cannot happen.
float shown(float logprob) { return std::max(logprob, -9999.0f); }

// Text where the bytes are text, and OpenAI's way to show them where they are not.
std::string token_text(std::string_view bytes) {
  if (text::is_valid_utf8(bytes)) return std::string(bytes);
  std::string shown = "bytes:";
  for (const char c : bytes) shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return shown;
}

void begin_reply(JsonWriter& json, const ReplyHead& head, std::string_view object) {
  json.begin_object().field("id", head.id).field("object", object);
  json.field("created", head.created).field("model", head.model);
  json.field("system_fingerprint", head.fingerprint).key("choices").begin_array();
}

void end_chunk(JsonWriter& json, const ReplyHead& head) {
  json.end_array();
  if (head.include_usage) json.key("usage").null();
  if (!head.cost_far.empty()) json.field("cost_far", head.cost_far);
  json.end_object();
}

void write_token_logprob(JsonWriter& json, TokenId id, float logprob, const TokenBytes& bytes) {
  const std::string own = bytes(id);
  json.field("token", token_text(own)).field("logprob", shown(logprob));
  json.key("bytes").begin_array();
  for (const char c : own) json.value(unsigned(static_cast<unsigned char>(c)));
  json.end_array();
}

void write_chat_logprobs(JsonWriter& json, std::span<const Token> tokens, const TokenBytes& bytes) {
  json.key("logprobs").begin_object().key("content").begin_array();
  for (const Token& token : tokens) {
    json.begin_object();
    write_token_logprob(json, token.id, token.logprob, bytes);
    json.key("top_logprobs").begin_array();
    for (const TokenLogprob& other : token.top) {
      json.begin_object();
      write_token_logprob(json, other.id, other.logprob, bytes);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("refusal").null().end_object();
}

void write_completion_logprobs(JsonWriter& json, std::span<const Token> tokens, std::size_t offset,
                               const TokenBytes& bytes) {
  json.key("logprobs").begin_object().key("tokens").begin_array();
  for (const Token& token : tokens) json.value(token_text(bytes(token.id)));
  json.end_array().key("token_logprobs").begin_array();
  for (const Token& token : tokens) json.value(shown(token.logprob));
  json.end_array().key("top_logprobs").begin_array();
  for (const Token& token : tokens) {
    json.begin_object();
    for (const TokenLogprob& other : token.top) {
      json.field(token_text(bytes(other.id)), shown(other.logprob));
    }
    json.end_object();
  }
  json.end_array().key("text_offset").begin_array();
  for (const Token& token : tokens) {
    json.value(offset);
    offset += text::count_chars(token.text);
  }
  json.end_array().end_object();
}

void write_finish(JsonWriter& json, FinishReason reason) {
  json.key("finish_reason");
  const auto word = finish_reason(reason);
  word ? json.value(*word) : json.null();
}

void write_usage(JsonWriter& json, const TokenCounts& counts, std::string_view cost_far) {
  json.key("usage").begin_object().field("prompt_tokens", counts.prompt);
  json.field("completion_tokens", counts.completion);
  json.field("total_tokens", counts.prompt + counts.completion);
  json.key("prompt_tokens_details").begin_object().field("cached_tokens", counts.cached);
  json.end_object();
  if (!cost_far.empty()) json.field("cost_far", cost_far);
  if (!counts.nodes.empty()) write_nodes_used(json, counts.nodes);
  json.end_object();
}

constexpr std::string_view kChatChunk = "chat.completion.chunk";
constexpr std::string_view kCompletion = "text_completion";

}  // namespace

std::optional<std::string_view> finish_reason(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::none:
    case FinishReason::cancelled: break;
  }
  return std::nullopt;
}

std::string chat_role_chunk(const ReplyHead& head, std::uint32_t index) {
  JsonWriter json;
  begin_reply(json, head, kChatChunk);
  json.begin_object().field("index", index).key("delta").begin_object();
  json.field("role", "assistant").field("content", "").key("refusal").null().end_object();
  json.key("logprobs").null().key("finish_reason").null().end_object();
  end_chunk(json, head);
  return json.take();
}

std::string chat_chunk(const ReplyHead& head, std::uint32_t index, std::string_view text,
                       std::span<const Token> tokens, bool with_logprobs, const TokenBytes& bytes) {
  JsonWriter json;
  begin_reply(json, head, kChatChunk);
  json.begin_object().field("index", index).key("delta").begin_object();
  json.field("content", text).end_object();
  if (with_logprobs) {
    write_chat_logprobs(json, tokens, bytes);
  } else {
    json.key("logprobs").null();
  }
  json.key("finish_reason").null().end_object();
  end_chunk(json, head);
  return json.take();
}

std::string chat_finish_chunk(const ReplyHead& head, std::uint32_t index, FinishReason reason) {
  JsonWriter json;
  begin_reply(json, head, kChatChunk);
  json.begin_object().field("index", index).key("delta").begin_object().end_object();
  json.key("logprobs").null();
  write_finish(json, reason);
  json.end_object();
  end_chunk(json, head);
  return json.take();
}

std::string completion_chunk(const ReplyHead& head, std::uint32_t index, std::string_view text,
                             std::span<const Token> tokens, bool with_logprobs,
                             std::size_t text_offset, const TokenBytes& bytes) {
  JsonWriter json;
  begin_reply(json, head, kCompletion);
  json.begin_object().field("text", text).field("index", index);
  if (with_logprobs) {
    write_completion_logprobs(json, tokens, text_offset, bytes);
  } else {
    json.key("logprobs").null();
  }
  json.key("finish_reason").null().end_object();
  end_chunk(json, head);
  return json.take();
}

std::string completion_finish_chunk(const ReplyHead& head, std::uint32_t index,
                                    FinishReason reason) {
  JsonWriter json;
  begin_reply(json, head, kCompletion);
  json.begin_object().field("text", "").field("index", index).key("logprobs").null();
  write_finish(json, reason);
  json.end_object();
  end_chunk(json, head);
  return json.take();
}

std::string usage_chunk(const ReplyHead& head, bool chat, const TokenCounts& counts,
                        std::string_view cost_far) {
  JsonWriter json;
  begin_reply(json, head, chat ? kChatChunk : kCompletion);
  json.end_array();
  write_usage(json, counts, cost_far);
  return json.end_object().take();
}

std::string chat_reply(const ReplyHead& head, std::span<const Choice> choices,
                       const TokenCounts& counts, std::string_view cost_far,
                       const TokenBytes& bytes) {
  JsonWriter json;
  begin_reply(json, head, "chat.completion");
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const Choice& choice = choices[i];
    json.begin_object().field("index", i).key("message").begin_object();
    json.field("role", "assistant").field("content", choice.text).key("refusal").null();
    json.end_object();
    if (choice.with_logprobs) {
      write_chat_logprobs(json, choice.tokens, bytes);
    } else {
      json.key("logprobs").null();
    }
    write_finish(json, choice.reason);
    json.end_object();
  }
  json.end_array();
  write_usage(json, counts, cost_far);
  return json.end_object().take();
}

std::string completion_reply(const ReplyHead& head, std::span<const Choice> choices,
                             const TokenCounts& counts, std::string_view cost_far,
                             const TokenBytes& bytes) {
  JsonWriter json;
  begin_reply(json, head, kCompletion);
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const Choice& choice = choices[i];
    json.begin_object().field("text", choice.text).field("index", i);
    if (choice.with_logprobs) {
      write_completion_logprobs(json, choice.tokens, choice.echoed, bytes);
    } else {
      json.key("logprobs").null();
    }
    write_finish(json, choice.reason);
    json.end_object();
  }
  json.end_array();
  write_usage(json, counts, cost_far);
  return json.end_object().take();
}

std::string model_object(const ListedModel& model) {
  JsonWriter json;
  json.begin_object().field("id", model.id).field("object", "model");
  json.field("created", model.created).field("owned_by", "farmesh").end_object();
  return json.take();
}

std::string model_list(std::span<const ListedModel> models) {
  JsonWriter json;
  json.begin_object().field("object", "list").key("data").begin_array();
  for (const ListedModel& model : models) json.raw(model_object(model));
  return json.end_array().end_object().take();
}

}  // namespace farmesh::gateway
