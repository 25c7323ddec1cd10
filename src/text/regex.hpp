// The Unicode patterns of pre-tokenizers, run by PCRE2.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::text {

/// A half-open stretch of a text, in bytes, that a pattern matched or did not.
struct Stretch {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool matched = false;
};

/// Immutable after compile(); safe from several threads.
class Regex {
 public:
  /// `pattern` is written for Oniguruma. Fails with model_unsupported.
  static Result<Regex> compile(std::string_view pattern);

  /// Covers `text` (valid UTF-8, below 4 GiB) with matched and unmatched stretches, in order,
  /// appended to `stretches`. Fails with invalid_argument when matching exceeds its bounds.
  Result<void> cover(std::string_view text, std::vector<Stretch>& stretches) const;

 private:
  struct Compiled;
  explicit Regex(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}

  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace farmesh::text
