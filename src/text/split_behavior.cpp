#include "text/split_behavior.hpp"

#include <algorithm>

namespace farmesh::text {
namespace {

/// Whether a stretch joins the word before it (in the direction of reading).
bool joins(SplitBehavior behavior, bool matched, bool previous_matched) {
  return behavior == SplitBehavior::contiguous ? matched == previous_matched
                                               : matched && !previous_matched;
}

}  // namespace

std::optional<SplitBehavior> split_behavior(std::string_view name) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  return std::nullopt;
}

void append_words(const std::vector<Stretch>& stretches, SplitBehavior behavior, std::uint32_t base,
                  std::vector<Words::Word>& words) {
  const std::size_t first = words.size();
  bool previous_matched = false;
  if (behavior == SplitBehavior::merged_with_next) {
    for (auto s = stretches.rbegin(); s != stretches.rend(); ++s) {
      if (words.size() > first && joins(behavior, s->matched, previous_matched)) {
        words.back().begin = base + s->begin;
      } else {
        words.push_back({base + s->begin, base + s->end});
      }
      previous_matched = s->matched;
    }
    std::reverse(words.begin() + static_cast<std::ptrdiff_t>(first), words.end());
  } else {
    for (const Stretch& s : stretches) {
      const bool join = behavior != SplitBehavior::removed && behavior != SplitBehavior::isolated &&
                        words.size() > first && joins(behavior, s.matched, previous_matched);
      if (join) {
        words.back().end = base + s.end;
      } else if (behavior != SplitBehavior::removed || !s.matched) {
        words.push_back({base + s.begin, base + s.end});
      }
      previous_matched = s.matched;
    }
  }
  const auto empty = [](Words::Word word) { return word.begin == word.end; };
  words.erase(
      std::remove_if(words.begin() + static_cast<std::ptrdiff_t>(first), words.end(), empty),
      words.end());
}

}  // namespace farmesh::text
