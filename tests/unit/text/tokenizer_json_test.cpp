// tokenizer.json that is damaged, lies or wants what we lack; and what its parts decide.
#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;
using test::small_tokenizer;

Errc code_of(const json& tokenizer) {
  const auto parsed = parse_tokenizer_json(tokenizer.dump());
  return parsed ? Errc::ok : parsed.error().code;
}

std::string problem_of(const json& tokenizer) {
  const auto parsed = parse_tokenizer_json(tokenizer.dump());
  return parsed ? "" : parsed.error().to_string();
}

std::shared_ptr<const Tokenizer> parse(const json& tokenizer) {
  const auto parsed = parse_tokenizer_json(tokenizer.dump());
  REQUIRE_MESSAGE(parsed, parsed.error().to_string());
  return *parsed;
}

/// {"a": 0, "b": 1, "ab": 2} with what a test adds.
json tiny(const json& vocab = {{"a", 0}, {"b", 1}, {"ab", 2}}, const json& merges = {"a b"}) {
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}},
          {"decoder", {{"type", "ByteLevel"}}}};
}

std::vector<TokenId> encode(const std::shared_ptr<const Tokenizer>& tokenizer,
                            std::string_view text, EncodeOptions options = {}) {
  const auto ids = tokenizer->encode(text, options);
  REQUIRE_MESSAGE(ids, ids.error().to_string());
  return *ids;
}

TEST_SUITE("text/tokenizer_json") {
  TEST_CASE("what is not JSON, or nested without end, is malformed") {
    for (const std::string& text :
         {std::string(""), std::string("{"), std::string("[]"), std::string("nonsense"),
          std::string("{\"model\":\xFF}"), std::string(1'000'000, '['),
          std::string("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"")}) {
      const auto parsed = parse_tokenizer_json(text);
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().code == Errc::tokenizer_malformed);
    }
  }

  TEST_CASE("a vocabulary with holes, or with ids or tokens twice, is malformed") {
    CHECK(code_of(tiny()) == Errc::ok);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 3}})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 1}})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", -2}})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 2.5}})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", "2"}})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 1ull << 40}})) == Errc::tokenizer_malformed);
    const auto twice = parse_tokenizer_json(
        R"({"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]},"decoder":{"type":"Fuse"}})");
    REQUIRE_FALSE(twice);
    CHECK(twice.error().code == Errc::tokenizer_malformed);
  }

  TEST_CASE("an added token may fill a hole of the vocabulary, or leave one above it") {
    json tokenizer = tiny({{"a", 0}, {"b", 1}, {"ab", 3}});
    tokenizer["added_tokens"] = {{{"id", 2}, {"content", "<x>"}, {"special", true}},
                                 {{"id", 9}, {"content", "<y>"}, {"special", true}}};
    const auto parsed = parse(tokenizer);
    CHECK(parsed->vocab_size() == 10);
    CHECK(parsed->find("<y>") == 9);
    CHECK(parsed->is_special(5));
    CHECK(parsed->token_bytes(5).empty());
    CHECK(parsed->token_bytes(10).empty());
    CHECK_FALSE(parsed->is_special(10));
  }

  TEST_CASE("merges that name unknown tokens, or are no pairs, are malformed") {
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}}, {"a b"})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 2}}, {"a"})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 2}}, {"a b c"})) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 2}},
                       json::array({json::array({"a", "b", "b"})}))) == Errc::tokenizer_malformed);
    CHECK(code_of(tiny({{"a", 0}, {"b", 1}, {"ab", 2}}, json::array({json::array({"a", "b"})}))) ==
          Errc::ok);
    json without = tiny();
    without["model"].erase("merges");
    CHECK(code_of(without) == Errc::tokenizer_malformed);
  }

  TEST_CASE("added tokens that contradict the vocabulary or each other are malformed") {
    const auto with = [](const json& added) {
      json tokenizer = tiny();
      tokenizer["added_tokens"] = added;
      return code_of(tokenizer);
    };
    CHECK(with({{{"id", 0}, {"content", "a"}}}) == Errc::ok);
    CHECK(with({{{"id", 0}, {"content", "<x>"}}}) == Errc::tokenizer_malformed);
    CHECK(with({{{"id", 3}, {"content", "a"}}}) == Errc::tokenizer_malformed);
    CHECK(with({{{"id", 3}, {"content", "<x>"}}, {{"id", 3}, {"content", "<y>"}}}) ==
          Errc::tokenizer_malformed);
    CHECK(with({{{"id", 3}, {"content", "<x>"}}, {{"id", 4}, {"content", "<x>"}}}) ==
          Errc::tokenizer_malformed);
    CHECK(with({{{"id", 1ull << 32}, {"content", "<x>"}}}) == Errc::tokenizer_malformed);
    CHECK(with({{{"id", 3}, {"content", ""}}}) == Errc::tokenizer_malformed);
    CHECK(with({{{"id", 3}}}) == Errc::tokenizer_malformed);
    CHECK(with("no list") == Errc::tokenizer_malformed);
  }

  TEST_CASE("a component that is not supported is refused by its name") {
    const auto with = [](const char* part, const json& component) {
      json tokenizer = tiny();
      tokenizer[part] = component;
      return problem_of(tokenizer);
    };
    CHECK(with("normalizer", {{"type", "Precompiled"}}) ==
          "model_unsupported: tokenizer.json: normalizer Precompiled");
    CHECK(with("pre_tokenizer", {{"type", "UnicodeScripts"}}) ==
          "model_unsupported: tokenizer.json: pre_tokenizer UnicodeScripts");
    CHECK(with("post_processor", {{"type", "Novel"}}) ==
          "model_unsupported: tokenizer.json: post_processor Novel");
    CHECK(with("decoder", {{"type", "WordPiece"}}) ==
          "model_unsupported: tokenizer.json: decoder WordPiece");
    CHECK(with("decoder", nullptr) == "model_unsupported: tokenizer.json: decoder null");
    json unigram = tiny();
    unigram["model"] = {{"type", "Unigram"}, {"vocab", json::array({json::array({"a", -1.0})})}};
    CHECK(problem_of(unigram) == "model_unsupported: tokenizer.json: model Unigram");
    json suffix = tiny();
    suffix["model"]["end_of_word_suffix"] = "</w>";
    CHECK(problem_of(suffix) == "model_unsupported: tokenizer.json: BPE option end_of_word_suffix");
  }

  TEST_CASE("a component of the wrong shape is malformed, however deep it hides") {
    const auto with = [](const char* part, const json& component) {
      json tokenizer = tiny();
      tokenizer[part] = component;
      return code_of(tokenizer);
    };
    CHECK(with("normalizer", 5) == Errc::tokenizer_malformed);
    CHECK(with("normalizer", {{"type", "Replace"}, {"content", "x"}}) == Errc::tokenizer_malformed);
    CHECK(with("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Split"}}}}}) ==
          Errc::tokenizer_malformed);
    CHECK(with("pre_tokenizer", {{"type", "ByteLevel"}, {"use_regex", "yes"}}) ==
          Errc::tokenizer_malformed);
    CHECK(with("post_processor", {{"type", "TemplateProcessing"}, {"single", json::array()}}) ==
          Errc::tokenizer_malformed);
    CHECK(with("post_processor",
               {{"type", "BertProcessing"}, {"cls", {"[CLS]", 77}}, {"sep", {"[SEP]", 1}}}) ==
          Errc::tokenizer_malformed);
    json deep = {{"type", "NFC"}};
    for (int i = 0; i < 20; ++i) deep = {{"type", "Sequence"}, {"normalizers", {deep}}};
    CHECK(with("normalizer", deep) == Errc::tokenizer_malformed);
  }

  TEST_CASE("characters outside the vocabulary are dropped, unknown or bytes, as the model says") {
    json tokenizer = tiny({{"a", 0}, {"b", 1}, {"ab", 2}, {"<unk>", 3}});
    CHECK(encode(parse(tokenizer), "abzzab") == std::vector<TokenId>{2, 2});
    tokenizer["model"]["unk_token"] = "<unk>";
    CHECK(encode(parse(tokenizer), "abzzab") == std::vector<TokenId>{2, 3, 3, 2});
    tokenizer["model"]["fuse_unk"] = true;
    CHECK(encode(parse(tokenizer), "abzzab") == std::vector<TokenId>{2, 3, 2});
    tokenizer["model"]["byte_fallback"] = true;
    tokenizer["model"]["vocab"]["<0x7A>"] = 4;
    CHECK(encode(parse(tokenizer), "abzyb") == std::vector<TokenId>{2, 4, 3, 1});
    tokenizer["model"]["unk_token"] = "<absent>";
    CHECK(code_of(tokenizer) == Errc::tokenizer_malformed);
  }

  TEST_CASE("ignore_merges takes a whole word that is a token, whatever the merges would give") {
    json tokenizer = tiny({{"a", 0}, {"b", 1}, {"ab", 2}, {"aba", 3}});
    CHECK(encode(parse(tokenizer), "aba") == std::vector<TokenId>{2, 0});
    tokenizer["model"]["ignore_merges"] = true;
    CHECK(encode(parse(tokenizer), "aba") == std::vector<TokenId>{3});
  }

  TEST_CASE("merges are applied by rank and then from the left, also in one endless word") {
    const json vocab = {{"a", 0}, {"aa", 1}, {"aaaa", 2}};
    const auto tokenizer = parse(tiny(vocab, {"a a", "aa aa"}));
    CHECK(encode(tokenizer, "aaaaa") == std::vector<TokenId>{2, 0});
    const std::vector<TokenId> ids = encode(tokenizer, std::string(100'003, 'a'));
    CHECK(ids.size() == 25'002);
    CHECK(ids[24'999] == 2);
    CHECK(ids[25'000] == 1);
    CHECK(ids[25'001] == 0);
  }

  TEST_CASE("a text above the bound is refused") {
    const auto refused = parse(tiny())->encode(std::string(kMaxTextBytes + 1, 'a'), {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
  }

  TEST_CASE("a text that grows beyond its bound when normalised is refused") {
    json tokenizer = tiny();
    tokenizer["normalizer"] = {{"type", "Replace"},
                               {"pattern", {{"String", "a"}}},
                               {"content", std::string(1'000'000, 'b')}};
    const auto refused = parse(tokenizer)->encode(std::string(1000, 'a'), {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
  }

  TEST_CASE("a pattern that backtracks without end is stopped") {
    json tokenizer = tiny();
    tokenizer["pre_tokenizer"] = {{"type", "Split"},
                                  {"pattern", {{"Regex", "(?:a|ab?)*[cd]"}}},
                                  {"behavior", "Isolated"},
                                  {"invert", false}};
    const auto refused = parse(tokenizer)->encode(std::string(5000, 'a'), {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
  }

  TEST_CASE("the tokens that a template adds are BOS and EOS, and are left out of text") {
    const auto tokenizer = parse(small_tokenizer());
    const TokenId end = *tokenizer->find("<|end|>");
    CHECK(tokenizer->bos() == end);
    CHECK(tokenizer->eos() == end);
    const std::vector<TokenId> ids = encode(tokenizer, "Hello");
    CHECK(ids.front() == end);
    CHECK(ids.back() == end);
    CHECK(encode(tokenizer, "Hello", {.add_special = false}).front() != end);
    CHECK(decode(tokenizer, ids) == "Hello");
    CHECK_FALSE(tokenizer->strips_leading_space());
  }

  TEST_CASE("an added token that is not special is always found, and shows as text") {
    const auto tokenizer = parse(small_tokenizer());
    const TokenId tool = *tokenizer->find("<tool>");
    const std::vector<TokenId> ids = encode(tokenizer, "x<tool>", {.add_special = false});
    CHECK(ids.back() == tool);
    CHECK_FALSE(tokenizer->is_special(tool));
    CHECK(tokenizer->token_bytes(tool) == "<tool>");
  }
}

}  // namespace
}  // namespace farmesh::text
