#include <utility>

#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool continuing)
    : tokenizer_(std::move(tokenizer)), continuing_(continuing), at_start_(!continuing) {}

std::string Detokenizer::push(TokenId id) {
  std::string_view bytes = tokenizer_->token_bytes(id);
  if (bytes.empty()) return {};
  if (std::exchange(at_start_, false) && tokenizer_->strips_leading_space() &&
      bytes.starts_with(' ')) {
    bytes.remove_prefix(1);
  }
  pending_.append(bytes);

  std::string complete;
  std::string_view left = pending_;
  while (!left.empty()) {
    const Utf8Char c = next_char(left);
    if (c.kind == Utf8Char::Kind::incomplete) break;
    complete.append(c.valid() ? left.substr(0, c.size) : kReplacementUtf8);
    left.remove_prefix(c.size);
  }
  pending_.erase(0, pending_.size() - left.size());
  return complete;
}

std::string Detokenizer::flush() {
  at_start_ = !continuing_;
  return to_valid_utf8(std::exchange(pending_, {}));
}

std::string decode(const std::shared_ptr<const Tokenizer>& tokenizer,
                   const std::vector<TokenId>& ids) {
  Detokenizer detokenizer(tokenizer);
  std::string text;
  for (const TokenId id : ids) text += detokenizer.push(id);
  return text += detokenizer.flush();
}

}  // namespace farmesh::text
