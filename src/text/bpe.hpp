// Byte-pair encoding: one word to token ids, by the merges of the model, best rank first.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <farmesh/result.hpp>

#include "base/types.hpp"
#include "text/flat_table.hpp"
#include "text/vocabulary.hpp"

namespace farmesh::text {

/// Immutable; safe from several threads, each with its own Scratch.
class Bpe {
 public:
  /// Working memory of encode(), kept between calls to spare allocations.
  class Scratch;

  /// `model` is tokenizer.json's "model" without its tables. Fails with tokenizer_malformed or
  /// model_unsupported.
  static Result<Bpe> create(const nlohmann::json& model,
                            std::vector<std::pair<std::string, std::uint64_t>> vocabulary,
                            const std::vector<std::pair<std::string, std::string>>& merges);

  /// Appends the ids of one word (valid UTF-8). Characters that the vocabulary lacks become byte
  /// tokens, the unknown token or nothing, as the model says.
  void encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& ids) const;

  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }

 private:
  struct Merge {
    std::uint32_t rank = 0;
    TokenId result = 0;
  };

  explicit Bpe(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

  Result<void> read_options(const nlohmann::json& model);
  void index_chars();
  Result<void> index_merges(const std::vector<std::pair<std::string, std::string>>& merges);
  std::optional<TokenId> char_id(char32_t c) const noexcept;
  bool has_bytes(std::string_view c) const noexcept;
  void encode_by_merges(std::string_view word, Scratch& scratch, std::vector<TokenId>& ids) const;
  void give_out(Scratch& scratch, std::vector<TokenId>& ids) const;
  void merge(Scratch& scratch) const;

  Vocabulary vocabulary_;
  FlatTable<Merge> merges_;         // (left id, right id) → what they become
  FlatTable<std::uint8_t> joints_;  // (last char, first char) across which some merge works
  FlatTable<TokenId> char_ids_;     // characters that are tokens
  std::array<std::uint32_t, 512> low_char_ids_{};  // the same for U+0000 to U+01FF, plus 1; 0: none
  // With byte fallback: <0x00> to <0xFF>, plus 1; 0: no such token.
  std::optional<std::array<std::uint32_t, 256>> byte_ids_;
  std::optional<TokenId> unknown_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

class Bpe::Scratch {
 private:
  friend class Bpe;

  static constexpr std::uint32_t kEnd = ~std::uint32_t{0};

  struct Symbol {
    TokenId id;
    std::uint32_t previous;  // index, or kEnd
    std::uint32_t next;
    bool alive;
  };
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t at;  // index of the left symbol
    TokenId result;
  };

  std::vector<Symbol> symbols_;  // empty between calls
  std::vector<Candidate> heap_;  // lowest rank first, then leftmost
};

}  // namespace farmesh::text
