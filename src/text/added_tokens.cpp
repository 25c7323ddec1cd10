#include "text/added_tokens.hpp"

#include <algorithm>

#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

constexpr std::uint64_t edge(std::uint32_t node, char byte) noexcept {
  return std::uint64_t{node} << 8 | static_cast<std::uint8_t>(byte);
}

bool touches_word(std::string_view before, std::string_view after) {
  std::size_t size = 0;
  return (!before.empty() && is_word(last_valid_char(before))) ||
         (!after.empty() && is_word(next_valid_char(after, size)));
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  starts_[static_cast<std::uint8_t>(pattern[0])] = true;
  std::uint32_t node = 0;
  for (const char byte : pattern) {
    const auto next = static_cast<std::uint32_t>(node_entry_.size());
    const auto [at, added] = edges_.emplace(edge(node, byte), next);
    if (added) node_entry_.push_back(-1);
    node = at->second;
  }
  node_entry_[node] = static_cast<std::int32_t>(entries_.size());
  entries_.push_back({token.id, token.special, token.single_word, token.lstrip, token.rstrip});
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::longest_at(std::string_view text,
                                                                      std::size_t begin) const {
  std::optional<Match> found;
  std::uint32_t node = 0;
  for (std::size_t at = begin; at < text.size(); ++at) {
    const auto next = edges_.find(edge(node, text[at]));
    if (next == edges_.end()) break;
    node = next->second;
    if (node_entry_[node] >= 0) {
      found = Match{at + 1, &entries_[static_cast<std::size_t>(node_entry_[node])]};
    }
  }
  return found;
}

std::vector<AddedTokenMatcher::Piece> AddedTokenMatcher::split(std::string_view text,
                                                               bool parse_special) const {
  std::vector<Piece> pieces;
  std::size_t done = 0;  // everything before it is in `pieces`
  for (std::size_t at = 0; at < text.size();) {
    if (!starts_[static_cast<std::uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const std::optional<Match> match = longest_at(text, at);
    if (!match) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = match->end;
    at = end;
    const Entry& entry = *match->entry;
    if (entry.special && !parse_special) continue;
    if (entry.single_word && touches_word(text.substr(0, begin), text.substr(end))) continue;
    if (entry.lstrip) begin -= std::min(trailing_space(text.substr(0, begin)), begin - done);
    if (entry.rstrip) end += leading_space(text.substr(end));
    if (begin > done) pieces.push_back({text.substr(done, begin - done), std::nullopt});
    pieces.push_back({text.substr(begin, end - begin), entry.id});
    done = at = end;
  }
  if (done < text.size()) pieces.push_back({text.substr(done), std::nullopt});
  return pieces;
}

}  // namespace farmesh::text
