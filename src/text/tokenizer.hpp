// Step 1 of a token's way: takes the user's text, gives token ids to client/; and back again.
//
// One face over the two formats that models ship: tokenizer.json (byte-level or byte-fallback
// BPE, as Hugging Face's `tokenizers` runs it) and tokenizer.model (SentencePiece).
// Immutable after loading; safe from several threads.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::text {

/// Largest accepted tokenizer.json or tokenizer.model, and longest text encoded at once.
inline constexpr std::size_t kMaxTokenizerBytes = 64u << 20;
inline constexpr std::size_t kMaxTextBytes = 16u << 20;

struct EncodeOptions {
  bool add_special = true;     // what the model's post-processor adds, such as BOS
  bool parse_special = false;  // "<|eot_id|>" in the text becomes its token; for templates only
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Any bytes are accepted: what is not UTF-8 is encoded as replacement characters or byte
  /// tokens, as the model's reference does. Fails with invalid_argument above kMaxTextBytes, and
  /// where a text defeats the tokenizer's pattern or its bounds on memory.
  virtual Result<std::vector<TokenId>> encode(std::string_view text,
                                              const EncodeOptions& options) const = 0;

  /// Raw bytes of one token as it stands inside a text (a leading space included); empty for
  /// special tokens and for ids outside the vocabulary.
  virtual std::string_view token_bytes(TokenId id) const = 0;

  virtual bool is_special(TokenId id) const = 0;
  virtual std::size_t vocab_size() const = 0;
  virtual std::optional<TokenId> find(std::string_view token) const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  /// SentencePiece's convention: the first word of a text carries a space that is not in it.
  virtual bool strips_leading_space() const = 0;
};

/// Loads tokenizer.json if the folder has one, else tokenizer.model; tokenizer_config.json and
/// special_tokens_map.json supply special tokens where present. Fails with model_not_found,
/// tokenizer_malformed or model_unsupported (naming the component that is not supported).
Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::filesystem::path& folder);

/// The parsers behind load_tokenizer(), for tests and fuzzing.
Result<std::shared_ptr<const Tokenizer>> parse_tokenizer_json(std::string_view json);
Result<std::shared_ptr<const Tokenizer>> parse_sentencepiece(std::string_view model_proto);

/// Turns ids into text as they arrive, and never emits half a UTF-8 character: bytes of an
/// unfinished character wait for the next token. One owner; not thread-safe.
class Detokenizer {
 public:
  /// `continuing`: the ids follow other text, so a leading space is kept.
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool continuing = false);

  /// Text that became complete with this id; often a word, sometimes nothing.
  std::string push(TokenId id);
  /// What still waits, with invalid bytes as U+FFFD. The object may then be reused.
  std::string flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string pending_;  // at most three bytes of an unfinished character
  bool continuing_;
  bool at_start_;
};

/// The whole text of `ids`, special tokens left out.
std::string decode(const std::shared_ptr<const Tokenizer>& tokenizer,
                   const std::vector<TokenId>& ids);

}  // namespace farmesh::text
