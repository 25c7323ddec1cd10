// What happens to a text before anything looks for words in it.
#pragma once

#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include <farmesh/result.hpp>

namespace farmesh::text {

/// Longest text that any step may make out of another.
inline constexpr std::size_t kMaxIntermediateBytes = 128u << 20;

/// Immutable; safe from several threads.
class Normalizer {
 public:
  virtual ~Normalizer() = default;

  /// Takes and gives valid UTF-8. Fails with invalid_argument when the text grows too long.
  virtual Result<std::string> apply(std::string text) const = 0;
};

/// `component` is tokenizer.json's "normalizer"; JSON null gives null, which changes nothing.
/// Fails with tokenizer_malformed or model_unsupported.
Result<std::unique_ptr<const Normalizer>> parse_normalizer(const nlohmann::json& component);

}  // namespace farmesh::text
