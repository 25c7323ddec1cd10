// A folder's tokenizer with the files beside it.
#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

using farmesh::test::TempDir;
using nlohmann::json;

Errc code_of(const TempDir& folder) {
  const auto tokenizer = load_tokenizer(folder.path());
  return tokenizer ? Errc::ok : tokenizer.error().code;
}

std::shared_ptr<const Tokenizer> load(const TempDir& folder) {
  const auto tokenizer = load_tokenizer(folder.path());
  REQUIRE_MESSAGE(tokenizer, tokenizer.error().to_string());
  return *tokenizer;
}

TEST_SUITE("text/load_tokenizer") {
  TEST_CASE("a folder without a tokenizer is not a model") {
    const TempDir folder;
    CHECK(code_of(folder) == Errc::model_not_found);
    CHECK(load_tokenizer(folder.path() / "absent").error().code == Errc::model_not_found);
  }

  TEST_CASE("tokenizer_config.json names BOS and EOS and decides whether they are added") {
    const TempDir folder;
    json tokenizer = test::small_tokenizer();
    tokenizer["post_processor"] = nullptr;
    folder.write("tokenizer.json", tokenizer.dump());
    CHECK_FALSE(load(folder)->bos());

    folder.write(
        "tokenizer_config.json",
        R"({"bos_token":{"content":"<|end|>"},"eos_token":"<tool>","add_bos_token":true})");
    const auto named = load(folder);
    CHECK(named->bos() == named->find("<|end|>"));
    CHECK(named->eos() == named->find("<tool>"));
    CHECK(named->encode("a", {})->front() == *named->bos());
    CHECK(named->encode("a", {})->back() != *named->eos());
    CHECK(named->encode("a", {.add_special = false})->size() == 1);
  }

  TEST_CASE("add_bos_token: false takes back what the template would add") {
    const TempDir folder;
    folder.write("tokenizer.json", test::small_tokenizer().dump());
    folder.write("tokenizer_config.json",
                 R"({"bos_token":"<|end|>","add_bos_token":false,"add_eos_token":false})");
    CHECK(load(folder)->encode("a", {})->size() == 1);
  }

  TEST_CASE("special_tokens_map.json serves where tokenizer_config.json is silent") {
    const TempDir folder;
    folder.write("tokenizer.json", test::small_tokenizer().dump());
    folder.write("tokenizer_config.json", R"({"eos_token":null})");
    folder.write("special_tokens_map.json", R"({"eos_token":"</tool>"})");
    CHECK(load(folder)->eos() == load(folder)->find("</tool>"));
  }

  TEST_CASE("a damaged file beside the tokenizer is named, not ignored") {
    const TempDir folder;
    folder.write("tokenizer.json", test::small_tokenizer().dump());
    folder.write("tokenizer_config.json", "{");
    const auto refused = load_tokenizer(folder.path());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::tokenizer_malformed);
    CHECK(refused.error().detail.find("tokenizer_config.json") == 0);
    folder.write("tokenizer_config.json", R"({"add_bos_token":"yes"})");
    CHECK(code_of(folder) == Errc::tokenizer_malformed);
    folder.write("tokenizer_config.json", "{}");
    folder.write("added_tokens.json", R"({"<x>":-1})");
    CHECK(code_of(folder) == Errc::tokenizer_malformed);
  }

  TEST_CASE("a SentencePiece model takes added tokens from the files beside it") {
    const std::filesystem::path model = test::kShared / "models/stories260K/tokenizer.model";
    if (test::absent(model)) return;
    const TempDir folder;
    folder.write("tokenizer.model", test::read(model));
    folder.write("tokenizer_config.json",
                 R"({"legacy":false,"added_tokens_decoder":{
                     "512":{"content":"<|user|>","special":true},
                     "514":{"content":"<note>","special":false,"rstrip":true}}})");
    folder.write("added_tokens.json", R"({"<old>":513,"<ignored>":512})");
    const auto tokenizer = load(folder);
    CHECK(tokenizer->vocab_size() == 515);
    CHECK(tokenizer->is_special(512));
    CHECK(tokenizer->find("<old>") == 513);
    CHECK_FALSE(tokenizer->find("<ignored>"));
    const auto parts = tokenizer->encode("Once<|user|>Once<note>  upon", {false, true});
    const auto once = tokenizer->encode("Once", {false, false});
    REQUIRE(parts);
    CHECK((*parts)[0] == once->front());
    CHECK((*parts)[1] == 512);
    CHECK((*parts)[2] != once->front());  // no space is put before what is not the beginning
    CHECK(decode(tokenizer, *parts) == "OnceOnce<note>upon");

    folder.write("tokenizer_config.json", "{}");
    const auto legacy = load(folder)->encode("Once<old>Once", {false, true});
    REQUIRE(legacy);
    CHECK(*legacy == std::vector<TokenId>{once->front(), 513, once->front()});
  }

  TEST_CASE("tokenizer.json comes before tokenizer.model") {
    const TempDir folder;
    folder.write("tokenizer.model", "damaged");
    CHECK(code_of(folder) == Errc::tokenizer_malformed);
    folder.write("tokenizer.json", test::small_tokenizer().dump());
    CHECK(code_of(folder) == Errc::ok);
  }
}

}  // namespace
}  // namespace farmesh::text
