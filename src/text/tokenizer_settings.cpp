#include "text/tokenizer_settings.hpp"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>

#include "base/mapped_file.hpp"
#include "text/json_fields.hpp"
#include "text/tokenizer.hpp"
#include "text/tokenizer_file.hpp"
#include "text/vocabulary.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

/// Keeps what is known already.
void take_special_tokens(const json& file, TokenizerSettings& settings) {
  const auto take = [&](std::string_view key, std::optional<std::string>& token) {
    if (token || !file.is_object()) return;
    const auto found = file.find(key);
    if (found != file.end()) token = token_text(*found);
  };
  take("bos_token", settings.bos);
  take("eos_token", settings.eos);
}

Result<void> take_added(AddedToken token, std::uint64_t id, TokenizerSettings& settings) {
  if (id >= kMaxVocabulary) return {Errc::tokenizer_malformed, "an added token's id cannot be"};
  token.id = static_cast<TokenId>(id);
  const bool known = std::any_of(settings.added.begin(), settings.added.end(),
                                 [&](const AddedToken& other) { return other.id == token.id; });
  if (!known && !token.content.empty()) settings.added.push_back(std::move(token));
  return {};
}

/// tokenizer_config.json: {"added_tokens_decoder": {"32000": {"content": "<|im_end|>", …}}}
Result<void> take_added_decoder(const json& list, TokenizerSettings& settings) {
  for (const auto& [key, value] : list.items()) {
    std::uint64_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      return {Errc::tokenizer_malformed, "added_tokens_decoder has a key that is no id"};
    }
    JsonFields fields(value, "added_tokens_decoder entry");
    AddedToken token;
    token.content = fields.text("content");
    token.special = fields.boolean_or("special", false);
    token.single_word = fields.boolean_or("single_word", false);
    token.lstrip = fields.boolean_or("lstrip", false);
    token.rstrip = fields.boolean_or("rstrip", false);
    if (fields.bad()) return fields.error();
    Result<void> taken = take_added(std::move(token), id, settings);
    if (!taken) return taken;
  }
  return {};
}

/// added_tokens.json, the older form: {"<|im_end|>": 32000}
Result<void> take_added_map(const json& map, TokenizerSettings& settings) {
  if (!map.is_object()) return {};
  for (const auto& [content, id] : map.items()) {
    const auto* number = id.get_ptr<const json::number_unsigned_t*>();
    if (number == nullptr) return {Errc::tokenizer_malformed, "added_tokens.json has a bad id"};
    AddedToken token;
    token.content = content;
    token.special = true;
    Result<void> taken = take_added(std::move(token), *number, settings);
    if (!taken) return taken;
  }
  return {};
}

}  // namespace

std::optional<std::string> token_text(const json& value) {
  const json* content = &value;
  if (value.is_object()) {
    const auto found = value.find("content");
    if (found != value.end()) content = &*found;
  }
  const auto* text = content->get_ptr<const json::string_t*>();
  return text == nullptr || text->empty() ? std::nullopt : std::optional(*text);
}

Result<json> read_optional_json(const std::filesystem::path& path) {
  const Result<std::string> text = read_text_file(path, kMaxTokenizerBytes);
  if (!text && text.error().code == Errc::model_not_found) return json(nullptr);
  if (!text && text.error().code == Errc::model_malformed) {
    return Error{Errc::tokenizer_malformed, text.error().detail};
  }
  if (!text) return text.error();
  return read_json(*text, path.filename().string());
}

Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings settings;
  const Result<json> config = read_optional_json(folder / "tokenizer_config.json");
  if (!config) return config.error();
  if (config->is_object()) {
    take_special_tokens(*config, settings);
    JsonFields fields(*config, "tokenizer_config.json");
    if (fields.find("add_bos_token")) settings.add_bos = fields.boolean_or("add_bos_token", false);
    if (fields.find("add_eos_token")) settings.add_eos = fields.boolean_or("add_eos_token", false);
    settings.legacy = fields.boolean_or("legacy", true);
    if (fields.bad()) return fields.error();
    if (const json* list = fields.find("added_tokens_decoder"); list && list->is_object()) {
      const Result<void> taken = take_added_decoder(*list, settings);
      if (!taken) return taken.error();
    }
  }
  const Result<json> map = read_optional_json(folder / "special_tokens_map.json");
  if (!map) return map.error();
  take_special_tokens(*map, settings);
  const Result<json> added = read_optional_json(folder / "added_tokens.json");
  if (!added) return added.error();
  const Result<void> taken = take_added_map(*added, settings);
  if (!taken) return taken.error();
  return settings;
}

}  // namespace farmesh::text
