#include "node/draft_stage.hpp"

#include <set>

#include <doctest/doctest.h>

using namespace farmesh;

namespace {

/// Tokens as given; special where the test says so.
struct Words final : text::Tokenizer {
  explicit Words(std::vector<std::string> w, std::set<TokenId> s = {})
      : words(std::move(w)), special(std::move(s)) {}

  Result<std::vector<TokenId>> encode(std::string_view, const text::EncodeOptions&) const override {
    return std::vector<TokenId>();
  }
  std::string_view token_bytes(TokenId id) const override {
    return id < words.size() ? std::string_view(words[id]) : std::string_view();
  }
  bool is_special(TokenId id) const override { return special.contains(id); }
  std::size_t vocab_size() const override { return words.size(); }
  std::optional<TokenId> find(std::string_view) const override { return std::nullopt; }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  bool strips_leading_space() const override { return false; }

  std::vector<std::string> words;
  std::set<TokenId> special;
};

}  // namespace

TEST_SUITE("node/draft_stage") {
  TEST_CASE("equal tokenizers share every id; padding at the end of one does not count") {
    const Words model({"", "a", "b"}, {0});
    CHECK(*node::shared_ids(model, model) == 3);
    CHECK(*node::shared_ids(model, Words({"", "a", "b", "", ""}, {0})) == 3);
    CHECK(*node::shared_ids(Words({"", "a", "b", ""}, {0}), model) == 3);
  }

  TEST_CASE("another token, a special one, or one more is told by its id") {
    const Words model({"", "a", "b"}, {0});
    for (const Words& other : {Words({"", "b", "a"}, {0}), Words({"", "a", "b"}, {0, 1}),
                               Words({"", "a", "b", "c"}, {0}), Words({"", "a"}, {0})}) {
      const Result<std::uint32_t> shared = node::shared_ids(model, other);
      REQUIRE_FALSE(shared);
      CHECK(shared.error().code == Errc::config_mismatch);
      CHECK(shared.error().detail.find("another tokenizer: token ") != std::string::npos);
    }
  }
}
