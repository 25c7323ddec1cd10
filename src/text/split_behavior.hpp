// What becomes of the stretches that a pre-tokenizer's pattern matched.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.hpp"
#include "text/regex.hpp"

namespace farmesh::text {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// The behaviour of this name in tokenizer.json, such as "MergedWithNext".
std::optional<SplitBehavior> split_behavior(std::string_view name);

/// Appends the words that `stretches`, which cover one word, make. Offsets are moved by `base`.
void append_words(const std::vector<Stretch>& stretches, SplitBehavior behavior, std::uint32_t base,
                  std::vector<Words::Word>& words);

}  // namespace farmesh::text
