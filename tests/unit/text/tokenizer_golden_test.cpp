// The parts of tokenizer.json against Hugging Face's own library (goldens/make_goldens.py).
#include "text/normalizer.hpp"
#include "text/pre_tokenizer.hpp"
#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

TEST_SUITE("text/golden") {
  TEST_CASE("every pre-tokenizer cuts every text as the reference does") {
    const json goldens = test::read_json(test::kHere / "goldens/pre_tokenizers.json");
    for (const json& golden : goldens["components"]) {
      CAPTURE(golden["component"].dump());
      const auto pre_tokenizer = parse_pre_tokenizer(golden["component"]);
      REQUIRE_MESSAGE(pre_tokenizer, pre_tokenizer.error().to_string());
      for (std::size_t i = 0; i < goldens["texts"].size(); ++i) {
        const std::string text = goldens["texts"][i];
        CAPTURE(text);
        Words words{text, {}, true};
        if (!text.empty()) words.words.push_back({0, static_cast<std::uint32_t>(text.size())});
        REQUIRE((*pre_tokenizer)->apply(words));
        json found = json::array();
        for (const Words::Word word : words.words) found.push_back(std::string(words.view(word)));
        // The reference may give one empty word for an empty text; the model sees none.
        json expected = json::array();
        for (const json& word : golden["words"][i]) {
          if (!text.empty() && word != "") expected.push_back(word);
        }
        CHECK(found == expected);
      }
    }
  }

  TEST_CASE("every normalizer rewrites every text as the reference does") {
    const json goldens = test::read_json(test::kHere / "goldens/normalizers.json");
    for (const json& golden : goldens["components"]) {
      CAPTURE(golden["component"].dump());
      const auto normalizer = parse_normalizer(golden["component"]);
      REQUIRE_MESSAGE(normalizer, normalizer.error().to_string());
      for (std::size_t i = 0; i < goldens["texts"].size(); ++i) {
        const Result<std::string> text = (*normalizer)->apply(goldens["texts"][i]);
        REQUIRE(text);
        CHECK(*text == golden["results"][i].get<std::string>());
      }
    }
  }

  TEST_CASE("small tokenizers of every make encode every text as the reference does") {
    for (const json& golden : test::read_json(test::kHere / "goldens/tokenizers.json")) {
      const auto tokenizer = parse_tokenizer_json(golden["tokenizer"].dump());
      REQUIRE_MESSAGE(tokenizer, tokenizer.error().to_string());
      for (const json& item : golden["cases"]) {
        CAPTURE(item.dump());
        const bool special = item["special"];
        const auto ids = (*tokenizer)
                             ->encode(item["text"].get<std::string>(),
                                      {.add_special = special, .parse_special = special});
        REQUIRE(ids);
        CHECK(*ids == item["ids"].get<std::vector<TokenId>>());
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::text
