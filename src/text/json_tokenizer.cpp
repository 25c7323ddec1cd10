#include "text/json_tokenizer.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/json_fields.hpp"
#include "text/normalizer.hpp"
#include "text/post_processor.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/token_decoder.hpp"
#include "text/token_table.hpp"
#include "text/tokenizer_file.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

Error malformed(std::string what) { return {Errc::tokenizer_malformed, std::move(what)}; }

/// What tokenizer.json holds, each part checked by itself.
struct Parts {
  Bpe bpe;
  std::vector<AddedToken> added;
  std::unique_ptr<const Normalizer> normalizer;       // may be null
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // may be null
  Surroundings around;
  TokenDecoder decoder;
};

class JsonTokenizer final : public Tokenizer {
 public:
  /// Fails with tokenizer_malformed when the parts contradict one another.
  static Result<std::shared_ptr<const Tokenizer>> create(Parts parts,
                                                         const TokenizerSettings& settings);

  explicit JsonTokenizer(Parts parts) : parts_(std::move(parts)) {}

  Result<std::vector<TokenId>> encode(std::string_view text,
                                      const EncodeOptions& options) const override;
  std::string_view token_bytes(TokenId id) const override { return table_.bytes(id); }
  bool is_special(TokenId id) const override { return table_.is_special(id); }
  std::size_t vocab_size() const override { return table_.size(); }
  std::optional<TokenId> find(std::string_view token) const override;
  std::optional<TokenId> bos() const override { return bos_; }
  std::optional<TokenId> eos() const override { return eos_; }
  bool strips_leading_space() const override { return parts_.decoder.strips_leading_space(); }

 private:
  Result<void> index_added();
  Result<void> check_ids() const;
  Result<void> fill_table();
  void apply(const TokenizerSettings& settings);

  /// Appends the ids of a stretch without added tokens that are looked for in the raw text.
  Result<void> encode_raw(std::string_view text, bool starts_input, const EncodeOptions& options,
                          Bpe::Scratch& scratch, std::vector<TokenId>& ids) const;
  /// Appends the ids of a normalised stretch without any added token.
  Result<void> encode_words(std::string_view text, bool starts_input, Bpe::Scratch& scratch,
                            std::vector<TokenId>& ids) const;

  Parts parts_;
  AddedTokenMatcher raw_;         // added tokens looked for before normalising,
  AddedTokenMatcher normalized_;  // and after
  std::unordered_map<std::string_view, TokenId> added_ids_;  // keys view parts_.added
  TokenTable table_;
  std::optional<TokenId> bos_;
  std::optional<TokenId> eos_;
};

Result<std::shared_ptr<const Tokenizer>> JsonTokenizer::create(Parts parts,
                                                               const TokenizerSettings& settings) {
  auto tokenizer = std::make_shared<JsonTokenizer>(std::move(parts));
  for (const auto step : {&JsonTokenizer::index_added, &JsonTokenizer::fill_table}) {
    const Result<void> done = ((*tokenizer).*step)();
    if (!done) return done.error();
  }
  tokenizer->apply(settings);
  const Result<void> checked = tokenizer->check_ids();
  if (!checked) return checked.error();
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

Result<void> JsonTokenizer::index_added() {
  const Vocabulary& vocabulary = parts_.bpe.vocabulary();
  for (const AddedToken& token : parts_.added) {
    const std::optional<TokenId> in_model = vocabulary.find(token.content);
    const bool id_taken = vocabulary.taken(token.id) && in_model != token.id;
    if ((in_model && in_model != token.id) || id_taken ||
        !added_ids_.emplace(token.content, token.id).second) {
      return malformed("added token " + std::to_string(token.id) +
                       " contradicts the vocabulary or another added token");
    }
    if (!token.normalized) {
      raw_.add(token, token.content);
    } else if (!parts_.normalizer) {
      normalized_.add(token, token.content);
    } else {
      const Result<std::string> pattern = parts_.normalizer->apply(token.content);
      if (!pattern) return malformed("added token " + std::to_string(token.id) + " is too long");
      normalized_.add(token, *pattern);
    }
  }
  return {};
}

Result<void> JsonTokenizer::fill_table() {
  const Vocabulary& vocabulary = parts_.bpe.vocabulary();
  std::vector<const AddedToken*> added;
  for (const AddedToken& token : parts_.added) added.push_back(&token);
  std::sort(added.begin(), added.end(),
            [](const AddedToken* a, const AddedToken* b) { return a->id < b->id; });
  auto next = added.begin();
  const std::size_t size = std::max<std::size_t>(
      vocabulary.size(), added.empty() ? 0 : std::size_t{added.back()->id} + 1);
  for (TokenId id = 0; id < size; ++id) {
    bool filled = false;
    if (next != added.end() && (*next)->id == id) {
      const AddedToken& token = **next++;
      if (next != added.end() && (*next)->id == id) {
        return malformed("id " + std::to_string(id) + " is given to two added tokens");
      }
      filled = table_.add(token.special ? "" : token.content, token.special);
    } else if (vocabulary.taken(id)) {
      filled = table_.add(parts_.decoder.bytes(vocabulary.text(id)), false);
    } else if (id < vocabulary.size()) {
      return malformed("vocabulary: id " + std::to_string(id) + " is missing");
    } else {
      filled = table_.add("", true);  // kept free for tokens to come
    }
    if (!filled) return malformed("the tokens' texts are too long");
  }
  return {};
}

void JsonTokenizer::apply(const TokenizerSettings& settings) {
  Surroundings& around = parts_.around;
  if (settings.bos) bos_ = find(*settings.bos);
  if (settings.eos) eos_ = find(*settings.eos);
  if (!bos_ && !around.before.empty()) bos_ = around.before.front();
  if (!eos_ && !around.after.empty()) eos_ = around.after.back();
  const auto has = [](const std::vector<TokenId>& ids, TokenId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  if (bos_ && settings.add_bos == true && !has(around.before, *bos_)) {
    around.before.insert(around.before.begin(), *bos_);
  }
  if (eos_ && settings.add_eos == true && !has(around.after, *eos_)) around.after.push_back(*eos_);
  if (bos_ && settings.add_bos == false) std::erase(around.before, *bos_);
  if (eos_ && settings.add_eos == false) std::erase(around.after, *eos_);
}

Result<void> JsonTokenizer::check_ids() const {
  for (const auto* list : {&parts_.around.before, &parts_.around.after}) {
    for (const TokenId id : *list) {
      if (id >= table_.size()) return malformed("post_processor adds an id that does not exist");
    }
  }
  return {};
}

std::optional<TokenId> JsonTokenizer::find(std::string_view token) const {
  const auto added = added_ids_.find(token);
  return added != added_ids_.end() ? std::optional(added->second)
                                   : parts_.bpe.vocabulary().find(token);
}

Result<std::vector<TokenId>> JsonTokenizer::encode(std::string_view text,
                                                   const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return Error{Errc::invalid_argument,
                 "text longer than " + std::to_string(kMaxTextBytes) + " bytes"};
  }
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = to_valid_utf8(text);
  std::vector<TokenId> ids;
  if (options.add_special) ids = parts_.around.before;
  Bpe::Scratch scratch;
  for (const AddedTokenMatcher::Piece& piece : raw_.split(text, options.parse_special)) {
    if (piece.token) {
      ids.push_back(*piece.token);
      continue;
    }
    const bool starts_input = piece.text.data() == text.data();
    const Result<void> done = encode_raw(piece.text, starts_input, options, scratch, ids);
    if (!done) return done.error();
  }
  if (options.add_special) {
    ids.insert(ids.end(), parts_.around.after.begin(), parts_.around.after.end());
  }
  return ids;
}

Result<void> JsonTokenizer::encode_raw(std::string_view text, bool starts_input,
                                       const EncodeOptions& options, Bpe::Scratch& scratch,
                                       std::vector<TokenId>& ids) const {
  std::string storage;
  if (parts_.normalizer) {
    Result<std::string> normal = parts_.normalizer->apply(std::string(text));
    if (!normal) return normal.error();
    text = storage = std::move(*normal);
  }
  for (const AddedTokenMatcher::Piece& piece : normalized_.split(text, options.parse_special)) {
    if (piece.token) {
      ids.push_back(*piece.token);
      continue;
    }
    const bool first = starts_input && piece.text.data() == text.data();
    Result<void> done = encode_words(piece.text, first, scratch, ids);
    if (!done) return done;
  }
  return {};
}

Result<void> JsonTokenizer::encode_words(std::string_view text, bool starts_input,
                                         Bpe::Scratch& scratch, std::vector<TokenId>& ids) const {
  if (!parts_.pre_tokenizer) {
    parts_.bpe.encode(text, scratch, ids);
    return {};
  }
  Words words{std::string(text), {{0, static_cast<std::uint32_t>(text.size())}}, starts_input};
  Result<void> cut = parts_.pre_tokenizer->apply(words);
  if (!cut) return cut;
  for (const Words::Word word : words.words) parts_.bpe.encode(words.view(word), scratch, ids);
  return {};
}

Result<std::vector<AddedToken>> parse_added_tokens(const json& list) {
  std::vector<AddedToken> tokens;
  if (list.is_null()) return tokens;
  if (!list.is_array()) return malformed("added_tokens is not a list");
  for (const json& item : list) {
    JsonFields fields(item, "added token");
    const std::uint64_t id = fields.number("id");
    AddedToken token;
    token.content = fields.text("content");
    token.special = fields.boolean_or("special", false);
    token.single_word = fields.boolean_or("single_word", false);
    token.lstrip = fields.boolean_or("lstrip", false);
    token.rstrip = fields.boolean_or("rstrip", false);
    token.normalized = fields.boolean_or("normalized", !token.special);
    if (fields.bad()) return fields.error();
    if (id >= kMaxVocabulary) return malformed("added token: an id is beyond any real one");
    if (token.content.empty()) return malformed("added token without a text");
    token.id = static_cast<TokenId>(id);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

const json& member(const json& object, std::string_view key) {
  static const json kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> make_json_tokenizer(std::string_view text,
                                                             const TokenizerSettings& settings) {
  if (text.size() > kMaxTokenizerBytes) return malformed("tokenizer.json: too large");
  Result<TokenizerFile> file = read_tokenizer_json(text);
  if (!file) return file.error();
  const json& root = file->rest;
  if (!root.is_object()) return malformed("tokenizer.json is not an object");
  JsonFields model(member(root, "model"), "tokenizer.json: model");
  // Files older than the "type" key hold BPE when they hold merges.
  const std::string type = model.text_or("type", file->has_merges ? "BPE" : "");
  if (model.bad()) return model.error();
  if (type != "BPE") return unsupported("model", type);
  if (!file->has_vocabulary || !file->has_merges) return malformed("BPE model without its tables");

  Result<Bpe> bpe = Bpe::create(member(root, "model"), std::move(file->vocabulary), file->merges);
  if (!bpe) return bpe.error();
  Result<std::vector<AddedToken>> added = parse_added_tokens(member(root, "added_tokens"));
  if (!added) return added.error();
  auto normalizer = parse_normalizer(member(root, "normalizer"));
  if (!normalizer) return normalizer.error();
  auto pre_tokenizer = parse_pre_tokenizer(member(root, "pre_tokenizer"));
  if (!pre_tokenizer) return pre_tokenizer.error();
  Result<Surroundings> around = parse_post_processor(member(root, "post_processor"));
  if (!around) return around.error();
  Result<TokenDecoder> decoder = TokenDecoder::create(member(root, "decoder"));
  if (!decoder) return decoder.error();
  return JsonTokenizer::create(
      Parts{std::move(*bpe), std::move(*added), std::move(*normalizer), std::move(*pre_tokenizer),
            std::move(*around), std::move(*decoder)},
      settings);
}

Result<std::shared_ptr<const Tokenizer>> parse_tokenizer_json(std::string_view json) {
  return make_json_tokenizer(json, TokenizerSettings{});
}

}  // namespace farmesh::text
