// tokenizer.model, by models that the tests write themselves.
#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

// Piece types of sentencepiece_model.proto.
enum Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string number(int field, std::uint64_t value) {
  return varint(static_cast<std::uint64_t>(field) << 3) + varint(value);
}
std::string bytes(int field, const std::string& payload) {
  return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(payload.size()) + payload;
}

std::string piece(const std::string& text, float score, Type type = normal) {
  std::string raw(4, '\0');
  std::memcpy(raw.data(), &score, 4);
  return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + raw + number(3, type));
}

struct Switches {
  bool dummy_prefix = true;
  bool remove_extra = false;
  bool suffix = false;
  std::string map;
};

/// A BPE model with byte fallback and the pieces "▁a", "ab", "▁", "a", "b" and "▁▁".
std::string model(const std::string& more = "", const Switches& switches = {}) {
  std::string proto =
      piece("<unk>", 0, unknown) + piece("<s>", 0, control) + piece("</s>", 0, control);
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    proto += piece(name, 0, byte);
  }
  proto += piece("▁a", -1) + piece("ab", -2) + piece("▁▁", -3);
  proto += piece("▁", -4) + piece("a", -5) + piece("b", -6) + more;
  proto += bytes(2, number(3, 2) + number(35, 1) + number(24, switches.suffix));
  std::string normalizer = number(3, switches.dummy_prefix) + number(4, switches.remove_extra);
  if (!switches.map.empty()) normalizer += bytes(2, switches.map);
  return proto + bytes(3, normalizer);
}

constexpr TokenId kPieces = 259;  // id of "▁a"

std::shared_ptr<const Tokenizer> parse(const std::string& proto) {
  const auto tokenizer = parse_sentencepiece(proto);
  REQUIRE_MESSAGE(tokenizer, tokenizer.error().to_string());
  return *tokenizer;
}

Errc code_of(const std::string& proto) {
  const auto tokenizer = parse_sentencepiece(proto);
  return tokenizer ? Errc::ok : tokenizer.error().code;
}

std::vector<TokenId> encode(const std::shared_ptr<const Tokenizer>& tokenizer,
                            std::string_view text, EncodeOptions options = {false, false}) {
  const auto ids = tokenizer->encode(text, options);
  REQUIRE_MESSAGE(ids, ids.error().to_string());
  return *ids;
}

using Ids = std::vector<TokenId>;

TEST_SUITE("text/sentencepiece") {
  TEST_CASE("pieces, bytes and the space before the first word") {
    const auto tokenizer = parse(model());
    CHECK(tokenizer->vocab_size() == kPieces + 6);
    CHECK(tokenizer->strips_leading_space());
    CHECK(encode(tokenizer, "") == Ids{});
    CHECK(encode(tokenizer, "a") == Ids{kPieces});
    CHECK(encode(tokenizer, "ab a") == Ids{kPieces, kPieces + 5, kPieces});
    CHECK(encode(tokenizer, "é") == Ids{kPieces + 3, 3 + 0xC3, 3 + 0xA9});
    CHECK(tokenizer->token_bytes(kPieces) == " a");
    CHECK(tokenizer->token_bytes(3 + 0xC3) == "\xC3");
    CHECK(tokenizer->token_bytes(0).empty());
    CHECK(tokenizer->is_special(0));
    for (const std::string text : {"a", " a", "  ab é", "▁", "", " "}) {
      CAPTURE(text);
      const std::string shown = text == "▁" ? " " : text;
      CHECK(decode(tokenizer, encode(tokenizer, text)) == shown);
    }
  }

  TEST_CASE("BOS is added when asked for, control tokens are read when asked for") {
    const auto tokenizer = parse(model());
    CHECK(encode(tokenizer, "a", {.add_special = true}) == Ids{1, kPieces});
    CHECK(encode(tokenizer, "a</s>a", {false, true}) == Ids{kPieces, 2, kPieces});
    CHECK(encode(tokenizer, "</s>", {false, false}).size() == 5);
    CHECK(decode(tokenizer, encode(tokenizer, "</s>")) == "</s>");
  }

  TEST_CASE("a model without the dummy prefix neither adds nor takes a space") {
    const auto tokenizer = parse(model("", {.dummy_prefix = false}));
    CHECK_FALSE(tokenizer->strips_leading_space());
    CHECK(encode(tokenizer, "a") == Ids{kPieces + 4});
    CHECK(decode(tokenizer, encode(tokenizer, " a")) == " a");
  }

  TEST_CASE("user-defined pieces are found wherever they stand") {
    const auto tokenizer = parse(model(piece("<tool>", 0, user_defined)));
    CHECK(encode(tokenizer, "b<tool>b") == Ids{kPieces + 3, kPieces + 5, kPieces + 6, kPieces + 5});
    CHECK(tokenizer->token_bytes(kPieces + 6) == "<tool>");
  }

  TEST_CASE("a model that is damaged, or contradicts itself, is malformed") {
    const std::string good = model();
    CHECK(code_of(good) == Errc::ok);
    CHECK(code_of("") == Errc::tokenizer_malformed);
    CHECK(code_of("no protobuf at all") == Errc::tokenizer_malformed);
    for (const std::size_t size : {1u, 100u, 1000u, 4000u}) {
      CHECK(code_of(good.substr(0, size)) == Errc::tokenizer_malformed);
    }
    CHECK(code_of(good.substr(0, good.size() - 1)) == Errc::tokenizer_malformed);
    CHECK(code_of(model(piece("a", -7))) == Errc::tokenizer_malformed);
    CHECK(code_of(model(piece("", -7))) == Errc::tokenizer_malformed);
    CHECK(code_of(model(piece("<unk2>", 0, unknown))) == Errc::tokenizer_malformed);
    CHECK(code_of(model(piece("\xFF\xFE", 0, control))) == Errc::tokenizer_malformed);
  }

  TEST_CASE("what the model needs and we lack is refused by name") {
    const auto suffix = parse_sentencepiece(model("", {.suffix = true}));
    REQUIRE_FALSE(suffix);
    CHECK(suffix.error().to_string() ==
          "model_unsupported: tokenizer.model: treat_whitespace_as_suffix");
    const auto map = parse_sentencepiece(model("", {.map = "table"}));
    REQUIRE_FALSE(map);
    CHECK(map.error().to_string() == "model_unsupported: tokenizer.model: precompiled_charsmap");
  }

  TEST_CASE("a model that removes extra white space does so at both ends and in between") {
    const auto tokenizer = parse(model("", {.remove_extra = true}));
    CHECK(encode(tokenizer, "  a   a  ") == Ids{kPieces, kPieces});
    CHECK(encode(tokenizer, "   ") == Ids{});
    CHECK(decode(tokenizer, encode(tokenizer, "  a   a ")) == "a a");
  }

  TEST_CASE("a text that cannot be cut is bounded") {
    const auto tokenizer = parse(model());
    const auto spaces = tokenizer->encode(std::string(6u << 20, ' '), {});
    REQUIRE_FALSE(spaces);
    CHECK(spaces.error().code == Errc::invalid_argument);
    CHECK_FALSE(tokenizer->encode(std::string(kMaxTextBytes + 1, 'b'), {}));
  }
}

}  // namespace
}  // namespace farmesh::text
