// Chat messages to one prompt, by the Jinja template that the model ships.
//
// A strict subset of Jinja2: what real chat templates use. Anything else is refused when the
// template is parsed, never rendered wrongly. Immutable after parse(); thread-safe.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::text {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

/// What a template finds as bos_token and so on; absent ones are undefined to it.
struct ChatTokens {
  std::optional<std::string> bos, eos, unk, pad;
};

inline constexpr std::size_t kMaxTemplateBytes = 256u << 10;
inline constexpr std::size_t kMaxRenderedBytes = 16u << 20;

class ChatTemplate {
 public:
  /// Fails with template_unsupported, naming the construct and its line.
  static Result<ChatTemplate> parse(std::string_view source, ChatTokens tokens = {});

  /// From tokenizer_config.json's `chat_template` (string, or list with a "default") or
  /// chat_template.jinja, which comes first, with bos_token, eos_token from tokenizer_config.json.
  /// Without any template: model_not_found.
  static Result<ChatTemplate> load(const std::filesystem::path& folder);

  /// Invalid UTF-8 in messages becomes U+FFFD. Fails with invalid_argument when the template
  /// itself raises (raise_exception), does what Jinja2 too would fail on, or its work or result
  /// exceeds its bound.
  Result<std::string> render(const std::vector<ChatMessage>& messages,
                             bool add_generation_prompt) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  std::shared_ptr<const Impl> impl_;
};

}  // namespace farmesh::text
