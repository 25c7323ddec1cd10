// The corpus between the two programs: farmesh_stories writes it, farmesh_train reads it.
//
// Two programs, because libsentencepiece carries a protobuf of its own that must not meet the
// one libtorch loads. The file is a plain run of little-endian 16-bit words, one a token: the id
// in the low 15 bits, and the top bit set where the model is not to learn the token (what a user
// says). Each document starts with BOS.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::train {

inline constexpr int kUnknownId = 0;
inline constexpr int kBosId = 1;
inline constexpr int kEosId = 2;
inline constexpr int kUserId = 3;
inline constexpr int kAssistantId = 4;

inline constexpr std::uint16_t kNotLearned = 0x8000;

/// Both fail with io_error; reading also when the file does not start with a document.
Result<void> write_tokens(const std::filesystem::path& file,
                          const std::vector<std::uint16_t>& tokens);
Result<std::vector<std::uint16_t>> read_tokens(const std::filesystem::path& file);

inline constexpr std::int64_t kNotScored = -100;  // target of a position without a loss

/// `rows` rows of `length` positions, row-major.
struct Batch {
  std::int64_t rows = 0;
  std::int64_t length = 0;
  std::vector<std::int64_t> inputs;
  std::vector<std::int64_t> targets;    // the next token, or kNotScored
  std::vector<std::int64_t> documents;  // position belongs to this document of its row
};

/// Documents as rows. A row starts with a whole document; its last one is cut at the row's end.
/// After the last document the first follows. One owner.
class Corpus {
 public:
  explicit Corpus(std::vector<std::uint16_t> tokens) noexcept : tokens_(std::move(tokens)) {}

  Batch next(std::int64_t rows, std::int64_t length);

  /// Index of the token that the next document starts with, for resuming.
  std::size_t position() const noexcept { return position_; }
  void seek(std::size_t position) noexcept { position_ = position; }
  std::size_t size() const noexcept { return tokens_.size(); }

 private:
  std::size_t document_end(std::size_t begin) const;

  std::vector<std::uint16_t> tokens_;
  std::size_t position_ = 0;
};

}  // namespace farmesh::train
