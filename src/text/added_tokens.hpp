// Tokens that are found in the text as they stand, before the model sees it: "<|eot_id|>".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/types.hpp"

namespace farmesh::text {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // looked for in the normalised text
};

/// Finds the leftmost, and there the longest, of many texts. Immutable; thread-safe.
class AddedTokenMatcher {
 public:
  struct Piece {
    std::string_view text;
    std::optional<TokenId> token;  // absent: ordinary text, not empty
  };

  /// Adds a token that is looked for as `pattern`; an empty pattern is never found.
  void add(const AddedToken& token, std::string_view pattern);

  /// The whole of `text` (valid UTF-8) in pieces. Special tokens stay ordinary text unless
  /// `parse_special`.
  std::vector<Piece> split(std::string_view text, bool parse_special) const;

 private:
  struct Entry {
    TokenId id;
    bool special, single_word, lstrip, rstrip;
  };
  struct Match {
    std::size_t end;
    const Entry* entry;
  };

  std::optional<Match> longest_at(std::string_view text, std::size_t begin) const;

  // A trie: node 0 is the root, edges_ leads from (node, byte) to a node.
  std::unordered_map<std::uint64_t, std::uint32_t> edges_;
  std::vector<std::int32_t> node_entry_ = {-1};  // index into entries_, or -1
  std::vector<Entry> entries_;
  bool starts_[256] = {};  // bytes that some pattern begins with
};

}  // namespace farmesh::text
