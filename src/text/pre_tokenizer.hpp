// A normalised text cut into the words that the BPE model then looks at one by one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <farmesh/result.hpp>

namespace farmesh::text {

/// A text and the words cut out of it so far: in order, not overlapping, none empty.
struct Words {
  struct Word {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };

  std::string text;  // valid UTF-8, at most kMaxIntermediateBytes
  std::vector<Word> words;
  bool starts_input = false;  // text[0] is where the whole input begins

  std::string_view view(Word word) const noexcept {
    return std::string_view(text).substr(word.begin, word.end - word.begin);
  }
};

/// Immutable; safe from several threads.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  /// Cuts every word further, or rewrites it. Fails with invalid_argument when the text grows too
  /// long or a pattern exceeds its bounds.
  virtual Result<void> apply(Words& words) const = 0;
};

/// `component` is tokenizer.json's "pre_tokenizer"; JSON null gives null, which cuts nothing.
/// Fails with tokenizer_malformed or model_unsupported.
Result<std::unique_ptr<const PreTokenizer>> parse_pre_tokenizer(const nlohmann::json& component);

}  // namespace farmesh::text
