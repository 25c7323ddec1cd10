#include "text/vocabulary.hpp"

#include <algorithm>

namespace farmesh::text {

Result<Vocabulary> Vocabulary::create(std::vector<std::pair<std::string, std::uint64_t>> entries) {
  std::uint64_t size = 0;
  for (const auto& entry : entries) size = std::max(size, entry.second + 1);
  if (size > kMaxVocabulary) {
    return Error{Errc::tokenizer_malformed, "vocabulary: an id is beyond any real one"};
  }
  Vocabulary vocabulary;
  vocabulary.texts_.resize(size);
  vocabulary.ids_.reserve(entries.size());
  for (auto& [text, id] : entries) {
    std::optional<std::string>& slot = vocabulary.texts_[id];
    if (slot) {
      return Error{Errc::tokenizer_malformed,
                   "vocabulary: id " + std::to_string(id) + " stands twice"};
    }
    slot = std::move(text);
    if (!vocabulary.ids_.emplace(*slot, static_cast<TokenId>(id)).second) {
      return Error{Errc::tokenizer_malformed,
                   "vocabulary: the token of id " + std::to_string(id) + " stands twice"};
    }
  }
  return vocabulary;
}

}  // namespace farmesh::text
