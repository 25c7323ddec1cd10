#include "text/chat_template.hpp"

#include <utility>

#include <nlohmann/json.hpp>

#include "base/mapped_file.hpp"
#include "text/jinja/interpreter.hpp"
#include "text/jinja/parser.hpp"
#include "text/tokenizer_settings.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

using jinja::Value;

Error at_line(Errc code, const jinja::Failure& failure) {
  return {code, "chat template, line " + std::to_string(failure.line) + ": " + failure.what};
}

/// One message as a template sees it, in valid UTF-8.
Value to_value(const ChatMessage& message) {
  jinja::Dict dict;
  dict.set("role", Value(to_valid_utf8(message.role)));
  dict.set("content", Value(to_valid_utf8(message.content)));
  return jinja::make_dict(std::move(dict));
}

/// tokenizer_config.json's "chat_template": a string, or a list of named ones.
const std::string* template_of(const nlohmann::json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) return nullptr;
  if (!found->is_array()) return found->get_ptr<const std::string*>();
  for (const nlohmann::json& item : *found) {
    if (!item.is_object() || !item.contains("name") || item["name"] != "default") continue;
    const auto source = item.find("template");
    return source == item.end() ? nullptr : source->get_ptr<const std::string*>();
  }
  return nullptr;
}

std::optional<std::string> special_token(const nlohmann::json& config, const char* name) {
  if (!config.is_object()) return std::nullopt;
  const auto found = config.find(name);
  return found == config.end() ? std::nullopt : token_text(*found);
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Block block;
  ChatTokens tokens;
};

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, ChatTokens tokens) {
  if (source.size() > kMaxTemplateBytes) {
    return Error{Errc::template_unsupported,
                 "chat template: over " + std::to_string(kMaxTemplateBytes) + " bytes"};
  }
  if (!is_valid_utf8(source)) {
    return Error{Errc::template_unsupported, "chat template: not UTF-8"};
  }
  auto impl = std::make_shared<Impl>();
  try {
    impl->block = jinja::parse_template(source);
  } catch (const jinja::Failure& failure) {
    return at_line(Errc::template_unsupported, failure);
  }
  impl->tokens = std::move(tokens);
  return ChatTemplate(std::move(impl));
}

Result<ChatTemplate> ChatTemplate::load(const std::filesystem::path& folder) {
  const Result<nlohmann::json> config = read_optional_json(folder / "tokenizer_config.json");
  if (!config) return config.error();
  ChatTokens tokens;
  tokens.bos = special_token(*config, "bos_token");
  tokens.eos = special_token(*config, "eos_token");
  tokens.unk = special_token(*config, "unk_token");
  tokens.pad = special_token(*config, "pad_token");

  const Result<std::string> file =
      read_text_file(folder / "chat_template.jinja", kMaxTemplateBytes);
  if (file) return parse(*file, std::move(tokens));
  if (file.error().code == Errc::model_malformed) {
    return Error{Errc::template_unsupported, file.error().detail};
  }
  if (file.error().code != Errc::model_not_found) return file.error();
  const std::string* source = config->is_object() ? template_of(*config) : nullptr;
  if (source == nullptr) return Error{Errc::model_not_found, "the model has no chat template"};
  return parse(*source, std::move(tokens));
}

Result<std::string> ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt) const {
  std::size_t bytes = 0;
  for (const ChatMessage& message : messages) bytes += message.role.size() + message.content.size();
  if (bytes > kMaxRenderedBytes) {
    return Error{Errc::invalid_argument, "the messages are too long for one prompt"};
  }
  try {
    std::vector<Value> list;
    for (const ChatMessage& message : messages) list.push_back(to_value(message));
    jinja::Variables variables = {
        {"messages", jinja::make_list(std::move(list))},
        {"add_generation_prompt", Value(add_generation_prompt)},
        {"tools", Value(jinja::None{})},
        {"documents", Value(jinja::None{})},
    };
    const auto set_token = [&](const char* name, const std::optional<std::string>& token) {
      if (token) variables.emplace_back(name, Value(to_valid_utf8(*token)));
    };
    set_token("bos_token", impl_->tokens.bos);
    set_token("eos_token", impl_->tokens.eos);
    set_token("unk_token", impl_->tokens.unk);
    set_token("pad_token", impl_->tokens.pad);
    return jinja::render(impl_->block, std::move(variables), std::time(nullptr), kMaxRenderedBytes);
  } catch (const jinja::Failure& failure) {
    return at_line(Errc::invalid_argument, failure);
  }
}

}  // namespace farmesh::text
