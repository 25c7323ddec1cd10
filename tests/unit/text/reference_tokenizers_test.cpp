// Real tokenizers against the public reference encodings in ../shared, where that is present.
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/mapped_file.hpp"
#include "text/tokenizer.hpp"

namespace farmesh::text {
namespace {

const std::filesystem::path kShared = FARMESH_SOURCE_DIR "/../shared";

bool absent(const std::filesystem::path& path) {
  if (std::filesystem::exists(path)) return false;
  MESSAGE("skipped: " << path.string() << " is absent");
  return true;
}

std::string read(const std::filesystem::path& path) {
  Result<std::string> text = read_text_file(path, kMaxTokenizerBytes);
  REQUIRE_MESSAGE(text, path.string());
  return *text;
}

std::vector<std::string> texts_of(const std::string& file) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  std::size_t begin = 0;
  for (std::size_t at; (at = file.find(separator, begin)) != file.npos;) {
    texts.push_back(file.substr(begin, at - begin));
    begin = at + separator.size();
  }
  texts.push_back(file.substr(begin));
  return texts;
}

std::vector<std::vector<TokenId>> ids_of(const std::string& file) {
  std::vector<std::vector<TokenId>> lines;
  std::istringstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::vector<TokenId> ids;
    for (TokenId id; words >> id;) ids.push_back(id);
    lines.push_back(ids);
  }
  return lines;
}

void check_cases(const std::filesystem::path& folder, const std::string& file_name) {
  if (absent(folder)) return;
  const std::string bytes = read(folder / file_name);
  const auto tokenizer =
      file_name.ends_with(".model") ? parse_sentencepiece(bytes) : parse_tokenizer_json(bytes);
  REQUIRE_MESSAGE(tokenizer, tokenizer.error().to_string());
  const std::vector<std::string> texts = texts_of(read(folder / "cases.inp"));
  std::vector<std::vector<TokenId>> expected = ids_of(read(folder / "cases.out"));
  expected.resize(texts.size());
  REQUIRE(texts.size() == 47);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i);
    CAPTURE(texts[i]);
    const auto ids = (*tokenizer)->encode(texts[i], {.add_special = false});
    REQUIRE(ids);
    CHECK(*ids == expected[i]);
    CHECK(decode(*tokenizer, *ids) == texts[i]);
  }
}

TEST_SUITE("text/reference") {
  TEST_CASE("Llama 2's tokenizer.model encodes every reference case exactly") {
    check_cases(kShared / "tokenizers/llama2", "tokenizer.model");
  }
  TEST_CASE("Llama 2's tokenizer.json encodes every reference case exactly") {
    check_cases(kShared / "tokenizers/llama2", "tokenizer.json");
  }
  TEST_CASE("Llama 3's tokenizer.json encodes every reference case exactly") {
    check_cases(kShared / "tokenizers/llama3", "tokenizer.json");
  }
  TEST_CASE("GPT-2's tokenizer.json encodes every reference case exactly") {
    check_cases(kShared / "tokenizers/gpt2", "tokenizer.json");
  }
}

}  // namespace
}  // namespace farmesh::text
