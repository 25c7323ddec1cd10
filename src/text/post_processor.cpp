#include "text/post_processor.hpp"

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "text/json_fields.hpp"
#include "text/vocabulary.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxAdded = 256;

Error malformed(std::string what) {
  return {Errc::tokenizer_malformed, "post_processor " + std::move(what)};
}

Result<void> append_id(const json& value, std::vector<TokenId>& ids) {
  const auto* id = value.get_ptr<const json::number_unsigned_t*>();
  if (id == nullptr || *id >= kMaxVocabulary) return malformed("names an id that cannot be");
  if (ids.size() == kMaxAdded) return malformed("adds too many tokens");
  ids.push_back(static_cast<TokenId>(*id));
  return {};
}

/// {"SpecialToken": {"id": "<s>"}}, looked up in the list beside the template.
Result<void> append_named(const json& token, const json& known, std::vector<TokenId>& ids) {
  JsonFields named(token, "post_processor SpecialToken");
  const std::string name = named.text("id");
  if (named.bad()) return named.error();
  const auto found = known.is_object() ? known.find(name) : known.end();
  if (!known.is_object() || found == known.end()) return malformed("lacks its token " + name);
  JsonFields entry(*found, "post_processor special token");
  const json& list = entry.require("ids");
  if (!list.is_array()) return malformed("lists no ids for " + name);
  for (const json& id : list) {
    Result<void> added = append_id(id, ids);
    if (!added) return added;
  }
  return {};
}

Result<Surroundings> parse_template(JsonFields& fields) {
  const json& single = fields.require("single");
  const json* known = fields.find("special_tokens");
  static const json kNothing;
  if (!single.is_array()) return malformed("TemplateProcessing has no list \"single\"");
  Surroundings around;
  std::size_t texts = 0;
  for (const json& item : single) {
    JsonFields piece(item, "post_processor template piece");
    if (piece.find("Sequence") != nullptr) {
      ++texts;
      continue;
    }
    const json& token = piece.require("SpecialToken");
    if (piece.bad()) return piece.error();
    const Result<void> added = append_named(token, known == nullptr ? kNothing : *known,
                                            texts == 0 ? around.before : around.after);
    if (!added) return added.error();
  }
  if (texts != 1) return malformed("TemplateProcessing does not hold the text once");
  return around;
}

/// ["[CLS]", 101], as BERT's and RoBERTa's processors name their tokens.
Result<void> append_pair(const json& pair, std::vector<TokenId>& ids) {
  if (!pair.is_array() || pair.size() != 2) return malformed("names a token without its id");
  return append_id(pair[1], ids);
}

Result<Surroundings> parse(const json& component, std::size_t depth) {
  if (component.is_null()) return Surroundings{};
  JsonFields fields(component, "post_processor");
  const std::string type = fields.type();
  if (fields.bad()) return fields.error();
  if (type == "ByteLevel") return Surroundings{};  // it moves offsets, which nobody asks for
  if (type == "TemplateProcessing") return parse_template(fields);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    Surroundings around;
    const Result<void> cls = append_pair(fields.require("cls"), around.before);
    if (!cls) return cls.error();
    const Result<void> sep = append_pair(fields.require("sep"), around.after);
    if (!sep) return sep.error();
    return around;
  }
  if (type != "Sequence") return unsupported("post_processor", type);

  const json& list = fields.require("processors");
  if (!list.is_array() || list.size() > kMaxSteps || depth == kMaxNested) {
    return malformed("Sequence is not a short list");
  }
  Surroundings around;
  for (const json& item : list) {
    const Result<Surroundings> outer = parse(item, depth + 1);
    if (!outer) return outer.error();
    around.before.insert(around.before.begin(), outer->before.begin(), outer->before.end());
    around.after.insert(around.after.end(), outer->after.begin(), outer->after.end());
    if (around.before.size() + around.after.size() > kMaxAdded) {
      return malformed("adds too many tokens");
    }
  }
  return around;
}

}  // namespace

Result<Surroundings> parse_post_processor(const json& component) { return parse(component, 0); }

}  // namespace farmesh::text
