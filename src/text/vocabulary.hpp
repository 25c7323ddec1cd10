// The model's own tokens: text to id and back. Added tokens are elsewhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::text {

/// Ids at or above this are taken as damage, not as a vocabulary.
inline constexpr std::uint64_t kMaxVocabulary = 1u << 22;

/// Immutable; the views it gives live as long as it does, also when it is moved.
class Vocabulary {
 public:
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// Fails with tokenizer_malformed: an id or text twice, or an id of kMaxVocabulary or more.
  static Result<Vocabulary> create(std::vector<std::pair<std::string, std::uint64_t>> entries);

  std::optional<TokenId> find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  /// Empty for an id that is not taken.
  std::string_view text(TokenId id) const noexcept {
    return id < texts_.size() && texts_[id] ? std::string_view(*texts_[id]) : std::string_view();
  }
  bool taken(TokenId id) const noexcept { return id < texts_.size() && texts_[id]; }

  /// One above the highest id.
  std::size_t size() const noexcept { return texts_.size(); }

 private:
  Vocabulary() = default;

  std::vector<std::optional<std::string>> texts_;      // [size()]
  std::unordered_map<std::string_view, TokenId> ids_;  // keys view texts_
};

}  // namespace farmesh::text
