// Guesses the next tokens from what was said before.
//
// Prompt lookup (Saxena 2023): text that repeats itself, as summaries, edits and code do, goes on
// as it went on the last time. A guess costs nothing but the rows that verify it, and those are
// nearly free where a step waits for memory or for the network; so the only question is how many.
// Used by guesses.hpp. Threading: none; one object a session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/types.hpp"

namespace farmesh::driver {

class PromptLookup {
 public:
  static constexpr std::size_t kLongest = 4;  // tokens that have to match, tried first …

  /// What followed the latest earlier occurrence of the last few of `ids`, the longest match
  /// first: at most `most` tokens, and no more than the last guesses were worth. `ids` is the
  /// whole session, which only grows.
  std::vector<TokenId> guess(std::span<const TokenId> ids, std::uint32_t most);

  /// How many of the last tokens the guess stands on; 0: none was made.
  std::size_t matched() const noexcept { return matched_; }

  /// The model agreed with the first `accepted` of `guessed` tokens.
  void judged(std::uint32_t guessed, std::uint32_t accepted) noexcept;

 private:
  static constexpr std::size_t kShortest = 2;  // … and last

  static std::uint64_t key_of(std::span<const TokenId> last) noexcept;
  void learn(std::span<const TokenId> ids);

  std::unordered_map<std::uint64_t, std::uint32_t> next_;  // after these tokens: where it went on
  std::size_t learnt_ = 0;                                 // ids that are in next_
  std::uint32_t length_ = 4;                               // of the next guess
  std::size_t shortest_ = kShortest;                       // match that is worth one now
  std::size_t matched_ = 0;
};

}  // namespace farmesh::driver
