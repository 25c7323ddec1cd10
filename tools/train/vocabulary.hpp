// The tokenizer of the demo model: learned from the generated text by SentencePiece, written as
// tokenizer.model. BPE with byte fallback, so that any input has an encoding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "train/story_grammar.hpp"

namespace farmesh::train {

inline constexpr std::string_view kUserPiece = "<|user|>";
inline constexpr std::string_view kAssistantPiece = "<|assistant|>";

class Vocabulary {
 public:
  /// Learns `size` pieces from `texts` and writes them to `file`. Fails with io_error or
  /// invalid_argument (too little text for so many pieces).
  static Result<void> learn(const std::vector<std::string>& texts, int size,
                            const std::filesystem::path& file);
  /// Fails with tokenizer_malformed.
  static Result<Vocabulary> open(const std::filesystem::path& file);

  Vocabulary(Vocabulary&&) noexcept;
  Vocabulary& operator=(Vocabulary&&) noexcept;
  ~Vocabulary();

  int size() const;
  /// No special tokens are added, none is recognised in the text.
  std::vector<int> encode(std::string_view text) const;
  /// What the model continues: BOS and the text, or with `chat` what the chat template
  /// makes of one user message.
  std::vector<int> prompt(std::string_view text, bool chat) const;
  /// A document with its special tokens, as token_file.hpp has it.
  std::vector<std::uint16_t> tokens(const Document& document) const;
  std::string decode(const std::vector<int>& ids) const;

 private:
  struct Impl;
  explicit Vocabulary(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::train
