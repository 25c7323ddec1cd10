#include "driver/prompt_lookup.hpp"

#include <algorithm>

namespace farmesh::driver {
namespace {

constexpr std::uint32_t kMostAtOnce = 16;
constexpr std::size_t kMostLearnt = 1u << 18;  // n-grams of one session: some 10 MB

}  // namespace

/// Of two tuples with one key the later one counts: a wrong guess, which is rejected.
std::uint64_t PromptLookup::key_of(std::span<const TokenId> last) noexcept {
  std::uint64_t key = last.size();
  for (const TokenId id : last) key = (key ^ id) * 0x9E3779B97F4A7C15u;
  return key;
}

void PromptLookup::learn(std::span<const TokenId> ids) {
  if (next_.size() > kMostLearnt) next_.clear();
  // What follows the very last is not known yet.
  for (std::size_t at = std::max(learnt_, kShortest); at < ids.size(); ++at) {
    for (std::size_t length = kShortest; length <= std::min(kLongest, at); ++length) {
      next_[key_of(ids.subspan(at - length, length))] = static_cast<std::uint32_t>(at);
    }
  }
  learnt_ = ids.size();
}

std::vector<TokenId> PromptLookup::guess(std::span<const TokenId> ids, std::uint32_t most) {
  learn(ids);
  const std::size_t wanted = std::min(most, length_);
  matched_ = 0;
  for (std::size_t length = std::min(kLongest, ids.size()); length >= shortest_; --length) {
    const auto found = next_.find(key_of(ids.last(length)));
    if (found == next_.end()) continue;
    matched_ = length;
    std::vector<TokenId> guessed;
    while (guessed.size() < wanted) {
      // A repetition shorter than the guess goes on with itself.
      const std::size_t at = found->second + guessed.size();
      guessed.push_back(at < ids.size() ? ids[at] : guessed[at - ids.size()]);
    }
    return guessed;
  }
  return {};
}

void PromptLookup::judged(std::uint32_t guessed, std::uint32_t accepted) noexcept {
  if (guessed == 0) return;
  length_ = accepted == guessed ? std::min(2 * length_, kMostAtOnce) : std::max(accepted + 1, 2u);
  shortest_ = accepted > 0 ? kShortest : std::min(shortest_ + 1, kLongest);
}

}  // namespace farmesh::driver
