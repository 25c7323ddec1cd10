// Ids to text as they arrive, by a stand-in tokenizer whose tokens are single bytes.
#include <array>

#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

/// Id 0 to 255: that byte. Id 256: special. Id 257: " word".
class Bytes final : public Tokenizer {
 public:
  explicit Bytes(bool strips) : strips_(strips) {
    for (std::size_t i = 0; i < 256; ++i) bytes_[i] = static_cast<char>(i);
  }
  Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const char byte : text) ids.push_back(static_cast<std::uint8_t>(byte));
    return ids;
  }
  std::string_view token_bytes(TokenId id) const override {
    if (id == 257) return " word";
    return id < 256 ? std::string_view(&bytes_[id], 1) : std::string_view();
  }
  bool is_special(TokenId id) const override { return id == 256; }
  std::size_t vocab_size() const override { return 258; }
  std::optional<TokenId> find(std::string_view) const override { return std::nullopt; }
  std::optional<TokenId> bos() const override { return 256; }
  std::optional<TokenId> eos() const override { return 256; }
  bool strips_leading_space() const override { return strips_; }

 private:
  bool strips_;
  std::array<char, 256> bytes_{};
};

std::shared_ptr<const Tokenizer> bytes(bool strips = false) {
  return std::make_shared<Bytes>(strips);
}

std::string push_all(Detokenizer& detokenizer, std::string_view text) {
  std::string out;
  for (const char byte : text) out += detokenizer.push(static_cast<std::uint8_t>(byte));
  return out;
}

TEST_SUITE("text/detokenizer") {
  TEST_CASE("a character of several bytes appears with its last byte") {
    Detokenizer detokenizer(bytes());
    CHECK(push_all(detokenizer, "\xF0\x9F\x99") == "");
    CHECK(push_all(detokenizer, "\x82") == "🙂");
    CHECK(detokenizer.flush() == "");
  }

  TEST_CASE("bytes that can begin no character are replaced at once") {
    Detokenizer detokenizer(bytes());
    CHECK(push_all(detokenizer, "\xFF") == "\uFFFD");
    CHECK(push_all(detokenizer, "\xE2\x82") == "");
    CHECK(push_all(detokenizer, "a") == "\uFFFDa");
  }

  TEST_CASE("flush shows what will never be completed, and makes the object new") {
    Detokenizer detokenizer(bytes(true));
    CHECK(detokenizer.push(257) == "word");
    CHECK(push_all(detokenizer, "\xE2\x82") == "");
    CHECK(detokenizer.flush() == "\uFFFD");
    CHECK(detokenizer.flush() == "");
    CHECK(detokenizer.push(257) == "word");
    CHECK(detokenizer.push(257) == " word");
  }

  TEST_CASE("only the first word loses its space, and special tokens do not count as words") {
    Detokenizer detokenizer(bytes(true));
    CHECK(detokenizer.push(256) == "");
    CHECK(detokenizer.push(257) == "word");
    CHECK(detokenizer.push(257) == " word");
  }

  TEST_CASE("a text that goes on keeps its leading space") {
    Detokenizer detokenizer(bytes(true), true);
    CHECK(detokenizer.push(257) == " word");
    detokenizer.flush();
    CHECK(detokenizer.push(257) == " word");
  }

  TEST_CASE("ids outside the vocabulary give nothing") {
    Detokenizer detokenizer(bytes());
    CHECK(detokenizer.push(1'000'000) == "");
    CHECK(decode(bytes(), {'a', 4'000'000'000u, 256, 'b'}) == "ab");
  }
}

}  // namespace
}  // namespace farmesh::text
