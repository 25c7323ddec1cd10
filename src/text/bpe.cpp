#include "text/bpe.hpp"

#include <algorithm>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "text/json_fields.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

constexpr std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) noexcept {
  return std::uint64_t{left} << 32 | right;
}

Error malformed(std::string what) {
  return {Errc::tokenizer_malformed, "BPE model: " + std::move(what)};
}

}  // namespace

Result<Bpe> Bpe::create(const nlohmann::json& model,
                        std::vector<std::pair<std::string, std::uint64_t>> vocabulary,
                        const std::vector<std::pair<std::string, std::string>>& merges) {
  Result<Vocabulary> tokens = Vocabulary::create(std::move(vocabulary));
  if (!tokens) return tokens.error();
  Bpe bpe(std::move(*tokens));
  bpe.index_chars();
  const Result<void> options = bpe.read_options(model);
  if (!options) return options.error();
  const Result<void> indexed = bpe.index_merges(merges);
  if (!indexed) return indexed.error();
  return bpe;
}

Result<void> Bpe::read_options(const nlohmann::json& model) {
  JsonFields fields(model, "BPE model");
  fuse_unknown_ = fields.boolean_or("fuse_unk", false);
  ignore_merges_ = fields.boolean_or("ignore_merges", false);
  const bool byte_fallback = fields.boolean_or("byte_fallback", false);
  const std::string unknown = fields.text_or("unk_token", "");
  const std::string prefix = fields.text_or("continuing_subword_prefix", "");
  const std::string suffix = fields.text_or("end_of_word_suffix", "");
  if (fields.bad()) return fields.error();
  if (!prefix.empty()) return unsupported("BPE option", "continuing_subword_prefix");
  if (!suffix.empty()) return unsupported("BPE option", "end_of_word_suffix");
  const nlohmann::json* dropout = fields.find("dropout");
  if (dropout != nullptr && *dropout != 0) return unsupported("BPE option", "dropout");
  if (!unknown.empty()) {
    unknown_ = vocabulary_.find(unknown);
    if (!unknown_) return malformed("the unknown token is not in the vocabulary");
  }
  if (!byte_fallback) return {};
  byte_ids_.emplace();
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    const std::optional<TokenId> id = vocabulary_.find(name);
    (*byte_ids_)[byte] = id ? *id + 1 : 0;
  }
  return {};
}

void Bpe::index_chars() {
  std::vector<std::pair<char32_t, TokenId>> chars;
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.text(id);
    if (text.empty()) continue;
    std::size_t size = 0;
    const char32_t c = next_valid_char(text, size);
    if (size == text.size()) chars.emplace_back(c, id);
  }
  char_ids_ = FlatTable<TokenId>(chars.size());
  for (const auto& [c, id] : chars) {
    if (c < low_char_ids_.size()) {
      low_char_ids_[c] = id + 1;
    } else {
      char_ids_.put(c, id);
    }
  }
}

Result<void> Bpe::index_merges(const std::vector<std::pair<std::string, std::string>>& merges) {
  merges_ = FlatTable<Merge>(merges.size());
  joints_ = FlatTable<std::uint8_t>(merges.size());
  std::string merged;
  std::uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    merged.assign(left).append(right);
    const std::optional<TokenId> left_id = vocabulary_.find(left);
    const std::optional<TokenId> right_id = vocabulary_.find(right);
    const std::optional<TokenId> merged_id = vocabulary_.find(merged);
    if (!left_id || !right_id || !merged_id || left.empty() || right.empty()) {
      return malformed("merge " + std::to_string(rank) + " names a token that does not exist");
    }
    merges_.put(pair_key(*left_id, *right_id), {rank++, *merged_id});
    std::size_t size = 0;
    joints_.put(pair_key(last_valid_char(left), next_valid_char(right, size)), 1);
  }
  return {};
}

std::optional<TokenId> Bpe::char_id(char32_t c) const noexcept {
  if (c < low_char_ids_.size()) {
    if (low_char_ids_[c] == 0) return std::nullopt;
    return low_char_ids_[c] - 1;
  }
  const TokenId* id = char_ids_.find(c);
  return id == nullptr ? std::nullopt : std::optional(*id);
}

bool Bpe::has_bytes(std::string_view c) const noexcept {
  return byte_ids_ && std::all_of(c.begin(), c.end(), [&](char byte) {
           return (*byte_ids_)[static_cast<std::uint8_t>(byte)] != 0;
         });
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const std::optional<TokenId> whole = vocabulary_.find(word)) {
      ids.push_back(*whole);
      return;
    }
  }
  encode_by_merges(word, scratch, ids);
}

/// Starts with one symbol a character. Wherever no merge at all could join the characters left
/// and right, what is there so far is merged and given out: the result is the same, and a text
/// that was never cut into words does not cost memory by its length.
void Bpe::encode_by_merges(std::string_view word, Scratch& scratch,
                           std::vector<TokenId>& ids) const {
  auto& symbols = scratch.symbols_;
  bool unknown_pending = false;
  const auto put = [&](TokenId id) {
    const auto at = static_cast<std::uint32_t>(symbols.size());
    if (at > 0) symbols.back().next = at;
    symbols.push_back({id, at > 0 ? at - 1 : Scratch::kEnd, Scratch::kEnd, true});
  };
  const auto put_unknown = [&] {
    if (unknown_pending) put(*unknown_);
    unknown_pending = false;
  };
  char32_t last = 0;  // last character of the last symbol, as joints_ sees it
  while (!word.empty()) {
    std::size_t size = 0;
    const char32_t c = next_valid_char(word, size);
    const std::optional<TokenId> id = char_id(c);
    // Byte tokens and the unknown token are not the character itself: no cut beside them.
    if (id && !unknown_pending && last != 0 && joints_.find(pair_key(last, c)) == nullptr) {
      give_out(scratch, ids);
    }
    if (id) {
      put_unknown();
      put(*id);
    } else if (has_bytes(word.substr(0, size))) {
      for (const char byte : word.substr(0, size)) {
        put((*byte_ids_)[static_cast<std::uint8_t>(byte)] - 1);
      }
    } else if (unknown_) {
      if (!fuse_unknown_) put_unknown();
      unknown_pending = true;
    }
    last = id ? c : 0;
    word.remove_prefix(size);
  }
  put_unknown();
  give_out(scratch, ids);
}

/// Merges the symbols and appends what is left of them, which empties the scratch.
void Bpe::give_out(Scratch& scratch, std::vector<TokenId>& ids) const {
  merge(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols_) {
    if (symbol.alive) ids.push_back(symbol.id);
  }
  scratch.symbols_.clear();
}

void Bpe::merge(Scratch& scratch) const {
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  const auto worse = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  const auto find = [&](std::uint32_t at) {
    return merges_.find(pair_key(symbols[at].id, symbols[symbols[at].next].id));
  };
  const auto offer = [&](std::uint32_t at) {
    if (at == Scratch::kEnd || symbols[at].next == Scratch::kEnd) return;
    const Merge* found = find(at);
    if (found == nullptr) return;
    heap.push_back({found->rank, at, found->result});
    std::push_heap(heap.begin(), heap.end(), worse);
  };

  heap.clear();
  for (std::uint32_t at = 0; at < symbols.size(); ++at) offer(at);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), worse);
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[best.at];
    if (!left.alive || left.next == Scratch::kEnd) continue;
    // The pair may have changed since it was offered.
    const Merge* now = find(best.at);
    if (now == nullptr || now->result != best.result) continue;
    Scratch::Symbol& right = symbols[left.next];
    left.id = best.result;
    right.alive = false;
    left.next = right.next;
    if (left.next != Scratch::kEnd) symbols[left.next].previous = best.at;
    offer(left.previous);
    offer(best.at);
  }
}

}  // namespace farmesh::text
