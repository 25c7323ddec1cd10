#include "text/sentencepiece_tokenizer.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/companion.hpp"
#include "text/added_tokens.hpp"
#include "text/flat_table.hpp"
#include "text/piece_model.hpp"
#include "text/sentencepiece_spec.hpp"
#include "text/token_decoder.hpp"
#include "text/token_table.hpp"
#include "text/utf8.hpp"
#include "text/vocabulary.hpp"

namespace farmesh::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // ▁
constexpr char32_t kSpaceMarkChar = 0x2581;

// The library needs some 100 bytes of memory for each byte of text, so a long text goes to it in
// parts of about this size, cut between characters that stand side by side in no piece.
constexpr std::size_t kPartBytes = 64u << 10;
// Where no such place comes, this is the most that goes at once.
constexpr std::size_t kMaxUncutBytes = 4u << 20;

Error malformed(std::string what) {
  return {Errc::tokenizer_malformed, "tokenizer.model: " + std::move(what)};
}

constexpr char32_t kAlone = 0x110000;  // no code point: marks the pair (kAlone, c) in joints_

constexpr std::uint64_t pair_key(char32_t left, char32_t right) noexcept {
  return std::uint64_t{left} << 32 | right;
}

/// The text of a piece with its space marks as spaces.
std::string spaced(std::string_view piece) {
  std::string out;
  for (std::size_t at; (at = piece.find(kSpaceMark)) != piece.npos;) {
    out.append(piece.substr(0, at)) += ' ';
    piece.remove_prefix(at + kSpaceMark.size());
  }
  return out.append(piece);
}

/// Opened at the first use; a failure is tried again by the next.
Result<PieceModelFactory> piece_model_factory() {
  static std::mutex mutex;
  static PieceModelFactory factory = nullptr;
  const std::lock_guard lock(mutex);
  if (factory == nullptr) {
    const Result<void*> opened = open_companion({kPieceModelLibrary, nullptr, kPieceModelSymbol});
    if (!opened) return opened.error();
    factory = reinterpret_cast<PieceModelFactory>(*opened);
  }
  return factory;
}

/// As the library's remove_extra_whitespaces: no spaces at the ends, runs of them as one.
std::string without_extra_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  while (out.ends_with(' ') || out.ends_with(kSpaceMark)) {
    out.resize(out.size() - (out.back() == ' ' ? 1 : kSpaceMark.size()));
  }
  return out;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  Result<void> open(std::string_view model_proto, const TokenizerSettings& settings);

  Result<std::vector<TokenId>> encode(std::string_view text,
                                      const EncodeOptions& options) const override;
  std::string_view token_bytes(TokenId id) const override { return table_.bytes(id); }
  bool is_special(TokenId id) const override { return table_.is_special(id); }
  std::size_t vocab_size() const override { return table_.size(); }
  std::optional<TokenId> find(std::string_view token) const override;
  std::optional<TokenId> bos() const override { return bos_; }
  std::optional<TokenId> eos() const override { return eos_; }
  bool strips_leading_space() const override { return spec_.adds_dummy_prefix; }

 private:
  Result<void> fill_table(const std::map<TokenId, AddedToken>& added);
  void choose_special(const TokenizerSettings& settings);

  void index_joints();
  bool may_cut(char32_t left, char32_t right) const noexcept;
  std::size_t part_length(std::string_view text) const noexcept;

  /// Appends the ids of a stretch without special tokens. Valid UTF-8, not empty.
  Result<void> encode_stretch(std::string_view text, bool starts_input,
                              std::vector<TokenId>& ids) const;
  Result<void> encode_part(std::string_view text, std::vector<TokenId>& ids) const;

  std::unique_ptr<const PieceModel> pieces_;
  SentencePieceSpec spec_;
  AddedTokenMatcher matcher_;
  TokenTable table_;
  std::unordered_map<std::string, TokenId> added_ids_;
  std::optional<TokenId> bos_;
  std::optional<TokenId> eos_;
  bool add_bos_ = false;
  bool add_eos_ = false;
  bool legacy_ = true;
  // Pairs of characters that stand side by side in some piece, and (kAlone, c) for every
  // character c that is a piece by itself.
  FlatTable<std::uint8_t> joints_;
};

Result<void> SentencePieceTokenizer::open(std::string_view model_proto,
                                          const TokenizerSettings& settings) {
  const Result<SentencePieceSpec> spec = read_sentencepiece_spec(model_proto);
  if (!spec) return spec.error();
  spec_ = *spec;
  if (spec_.whitespace_is_suffix) {
    return {Errc::model_unsupported, "tokenizer.model: treat_whitespace_as_suffix"};
  }
  if (!spec_.escapes_whitespace) {
    return {Errc::model_unsupported, "tokenizer.model: escape_whitespaces is off"};
  }
  // The library follows this table's offsets unchecked, and the file comes from strangers.
  if (spec_.has_character_map) {
    return {Errc::model_unsupported, "tokenizer.model: precompiled_charsmap"};
  }
  // A text goes to the library in stretches and parts, so what the model does to the ends of a
  // text is done here.
  const std::string proto = std::string(model_proto).append(kPlainWhitespace);
  const Result<PieceModelFactory> factory = piece_model_factory();
  if (!factory) return factory.error();
  std::string problem;
  pieces_.reset((*factory)(proto, &problem));
  if (!pieces_) return malformed(problem);
  legacy_ = settings.legacy;
  std::map<TokenId, AddedToken> added;
  for (const AddedToken& token : settings.added) added.emplace(token.id, token);
  Result<void> filled = fill_table(added);
  if (!filled) return filled;
  choose_special(settings);
  index_joints();
  return {};
}

void SentencePieceTokenizer::index_joints() {
  std::vector<std::uint64_t> keys;
  for (int id = 0; id < pieces_->size(); ++id) {
    std::string_view piece = pieces_->piece(id);
    char32_t left = kAlone;
    while (!piece.empty()) {
      const Utf8Char c = next_char(piece);
      const char32_t right = c.codepoint == ' ' ? kSpaceMarkChar : c.codepoint;
      piece.remove_prefix(c.size);
      if (left != kAlone || piece.empty()) keys.push_back(pair_key(left, right));
      left = right;
    }
  }
  joints_ = FlatTable<std::uint8_t>(keys.size());
  for (const std::uint64_t key : keys) joints_.put(key, 1);
}

/// True where the library gives the same ids for two parts as for the whole. Beside a character
/// that is no piece it may not, because unknown neighbours become one token.
bool SentencePieceTokenizer::may_cut(char32_t left, char32_t right) const noexcept {
  if (left == ' ') left = kSpaceMarkChar;
  if (right == ' ') right = kSpaceMarkChar;
  return joints_.find(pair_key(left, right)) == nullptr &&
         joints_.find(pair_key(kAlone, left)) != nullptr;
}

/// Bytes of the part to encode first: about kPartBytes, or more until it may be cut.
std::size_t SentencePieceTokenizer::part_length(std::string_view text) const noexcept {
  char32_t left = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t size = 0;
    const char32_t right = next_valid_char(text.substr(at), size);
    if (at >= kPartBytes && may_cut(left, right)) return at;
    left = right;
    at += size;
  }
  return text.size();
}

Result<void> SentencePieceTokenizer::fill_table(const std::map<TokenId, AddedToken>& added) {
  const auto pieces = static_cast<std::size_t>(pieces_->size());
  const std::size_t size =
      std::max(pieces, added.empty() ? 0 : std::size_t{added.rbegin()->first} + 1);
  if (size > kMaxVocabulary) return malformed("too many pieces");
  for (TokenId id = 0; id < size; ++id) {
    AddedToken token;
    token.id = id;
    token.special = true;
    std::string bytes;
    const int piece_id = static_cast<int>(id);
    if (const auto given = added.find(id); given != added.end()) {
      token = given->second;
      if (!token.special) bytes = token.content;
    } else if (id < pieces) {
      const std::string& piece = pieces_->piece(piece_id);
      if (pieces_->is_control(piece_id) || pieces_->is_unknown(piece_id)) {
        token.content = piece;
      } else if (const auto byte = byte_token(piece); byte && pieces_->is_byte(piece_id)) {
        bytes = std::string(1, static_cast<char>(*byte));
        token.special = false;
      } else {
        bytes = spaced(piece);
        token.special = false;
      }
    }
    if (!token.content.empty()) {
      if (!is_valid_utf8(token.content)) return malformed("a special token is not UTF-8");
      matcher_.add(token, token.content);
      added_ids_.emplace(token.content, id);
    }
    if (!table_.add(bytes, token.special)) return malformed("the pieces are too long");
  }
  return {};
}

void SentencePieceTokenizer::choose_special(const TokenizerSettings& settings) {
  const auto choose = [&](const std::optional<std::string>& named, int own) {
    std::optional<TokenId> id = named ? find(*named) : std::nullopt;
    if (!id && own >= 0) id = static_cast<TokenId>(own);
    return id;
  };
  bos_ = choose(settings.bos, pieces_->bos());
  eos_ = choose(settings.eos, pieces_->eos());
  add_bos_ = bos_ && settings.add_bos.value_or(true);
  add_eos_ = eos_ && settings.add_eos.value_or(false);
}

std::optional<TokenId> SentencePieceTokenizer::find(std::string_view token) const {
  const auto added = added_ids_.find(std::string(token));
  if (added != added_ids_.end()) return added->second;
  // The library answers with the unknown token for what it does not have.
  const int id = pieces_->find(token);
  if (id < 0 || pieces_->piece(id) != token) return std::nullopt;
  return static_cast<TokenId>(id);
}

Result<std::vector<TokenId>> SentencePieceTokenizer::encode(std::string_view text,
                                                            const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return Error{Errc::invalid_argument,
                 "text longer than " + std::to_string(kMaxTextBytes) + " bytes"};
  }
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = to_valid_utf8(text);
  std::vector<TokenId> ids;
  if (options.add_special && add_bos_) ids.push_back(*bos_);
  for (const AddedTokenMatcher::Piece& piece : matcher_.split(text, options.parse_special)) {
    if (piece.token) {
      ids.push_back(*piece.token);
      continue;
    }
    const bool starts_input = piece.text.data() == text.data();
    const Result<void> done = encode_stretch(piece.text, starts_input, ids);
    if (!done) return done.error();
  }
  if (options.add_special && add_eos_) ids.push_back(*eos_);
  return ids;
}

Result<void> SentencePieceTokenizer::encode_stretch(std::string_view text, bool starts_input,
                                                    std::vector<TokenId>& ids) const {
  std::string prepared =
      spec_.removes_extra_whitespace ? without_extra_spaces(text) : std::string(text);
  if (prepared.empty()) return {};
  if (spec_.adds_dummy_prefix && (starts_input || legacy_)) prepared.insert(0, " ");
  for (std::string_view left = prepared; !left.empty();) {
    const std::size_t length = part_length(left);
    if (length > kMaxUncutBytes) {
      return {Errc::invalid_argument,
              "over " + std::to_string(kMaxUncutBytes) + " bytes of text without a place to cut"};
    }
    Result<void> done = encode_part(left.substr(0, length), ids);
    if (!done) return done;
    left.remove_prefix(length);
  }
  return {};
}

Result<void> SentencePieceTokenizer::encode_part(std::string_view text,
                                                 std::vector<TokenId>& ids) const {
  std::vector<int> part;
  if (!pieces_->encode(text, part)) {
    return {Errc::tokenizer_malformed, "tokenizer.model: cannot encode a text"};
  }
  for (const int id : part) {
    if (id < 0) return {Errc::tokenizer_malformed, "tokenizer.model: gives an id below 0"};
    ids.push_back(static_cast<TokenId>(id));
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> make_sentencepiece_tokenizer(
    std::string_view model_proto, const TokenizerSettings& settings) {
  if (model_proto.size() > kMaxTokenizerBytes) return malformed("too large");
  auto tokenizer = std::make_shared<SentencePieceTokenizer>();
  const Result<void> opened = tokenizer->open(model_proto, settings);
  if (!opened) return opened.error();
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

Result<std::shared_ptr<const Tokenizer>> parse_sentencepiece(std::string_view model_proto) {
  return make_sentencepiece_tokenizer(model_proto, TokenizerSettings{});
}

}  // namespace farmesh::text
