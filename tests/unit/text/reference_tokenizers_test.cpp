// Real tokenizers against the public reference encodings in ../shared, where that is present.
#include <map>
#include <sstream>

#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

using test::absent;
using test::kShared;
using test::read;

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

/// Each is parsed once for all cases.
std::shared_ptr<const Tokenizer> open(const std::filesystem::path& file) {
  static std::map<std::filesystem::path, std::shared_ptr<const Tokenizer>> opened;
  if (const auto known = opened.find(file); known != opened.end()) return known->second;
  const std::string bytes = read(file);
  const auto tokenizer =
      file.extension() == ".model" ? parse_sentencepiece(bytes) : parse_tokenizer_json(bytes);
  REQUIRE_MESSAGE(tokenizer, tokenizer.error().to_string());
  return opened[file] = *tokenizer;
}

void check_cases(const std::filesystem::path& folder, const std::string& file_name) {
  if (absent(folder)) return;
  const auto tokenizer = open(folder / file_name);
  const std::vector<std::string> texts = texts_of(read(folder / "cases.inp"));
  std::vector<std::vector<TokenId>> expected = ids_of(read(folder / "cases.out"));
  expected.resize(texts.size());  // the last text is empty, and so has no line
  REQUIRE(texts.size() == 47);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i);
    CAPTURE(texts[i]);
    const auto ids = tokenizer->encode(texts[i], {.add_special = false});
    REQUIRE(ids);
    CHECK(*ids == expected[i]);
    CHECK(decode(tokenizer, *ids) == texts[i]);
  }
}

// Ten scripts, emoji with joiners, right-to-left marks, combining marks, controls, space of
// every kind.
const std::vector<std::string> kTexts = {
    "",
    "The quick brown fox jumps over the lazy dog. 0123456789",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "视野无限广，窗外有蓝天",
    "いろはにほへと ちりぬるを カタカナ",
    "키스의 고유조건은 입술끼리 만나야 하고",
    "ყოველი ადამიანი იბადება თავისუფალი",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽",
    "e\u0301 a\u0323\u0302 \u200f\u202e \u00a0\u2003\u3000",
    " leading, trailing and   inner  spaces  ",
    "\n\n\t\r\n line ends \x01\x7f",
    "\u0085\u2028\U0010fffd\U0001d54f",
};

void check_round_trips(const std::filesystem::path& file) {
  if (absent(file)) return;
  const auto tokenizer = open(file);
  for (const std::string& text : kTexts) {
    CAPTURE(text);
    const auto ids = tokenizer->encode(text, {.add_special = true});
    REQUIRE(ids);
    CHECK(decode(tokenizer, *ids) == text);
  }
}

void check_invalid_utf8(const std::filesystem::path& file) {
  if (absent(file)) return;
  const auto tokenizer = open(file);
  const std::string broken =
      "a\xFF"
      "b\xE2\x82"
      "c\xC0\xAF\xED\xA0\x80 \xF0\x9F\x99";
  const auto ids = tokenizer->encode(broken, {.add_special = false});
  REQUIRE(ids);
  CHECK(decode(tokenizer, *ids) == "a\uFFFDb\uFFFDc\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD \uFFFD");
}

/// Pushing the ids one by one gives whole characters only, and the same text in the end.
void check_increments(const std::filesystem::path& file) {
  if (absent(file)) return;
  const auto tokenizer = open(file);
  for (const std::string& text : kTexts) {
    CAPTURE(text);
    const auto ids = tokenizer->encode(text, {.add_special = false});
    REQUIRE(ids);
    for (std::size_t cut = 0; cut <= ids->size(); ++cut) {
      Detokenizer first(tokenizer), second(tokenizer, cut > 0);
      std::string whole;
      const auto push = [&](Detokenizer& detokenizer, TokenId id) {
        const std::string part = detokenizer.push(id);
        CHECK(part.find("\uFFFD") == part.npos);
        whole += part;
      };
      for (std::size_t i = 0; i < cut; ++i) push(first, (*ids)[i]);
      if (!first.flush().empty()) continue;  // the cut is inside a character
      for (std::size_t i = cut; i < ids->size(); ++i) push(second, (*ids)[i]);
      whole += second.flush();
      CHECK(whole == text);
    }
  }
}

// Not the stories model, which by its own word removes extra white space.
const std::vector<std::filesystem::path> kFiles = {
    kShared / "tokenizers/llama2/tokenizer.model",
    kShared / "tokenizers/llama2/tokenizer.json",
    kShared / "tokenizers/llama3/tokenizer.json",
    kShared / "tokenizers/gpt2/tokenizer.json",
};

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

  TEST_CASE("text in ten scripts and emoji comes back as it was") {
    for (const auto& file : kFiles) check_round_trips(file);
  }
  TEST_CASE("invalid UTF-8 becomes replacement characters") {
    for (const auto& file : kFiles) check_invalid_utf8(file);
  }
  TEST_CASE("text arrives in whole characters wherever the ids are cut") {
    for (const auto& file : kFiles) check_increments(file);
  }

  TEST_CASE("the stories model's first words are BOS and four tokens") {
    const std::filesystem::path folder = kShared / "models/stories260K";
    if (absent(folder)) return;
    const auto tokenizer = load_tokenizer(folder);
    REQUIRE_MESSAGE(tokenizer, tokenizer.error().to_string());
    const auto ids = (*tokenizer)->encode("Once upon a time", {});
    REQUIRE(ids);
    CHECK(*ids == std::vector<TokenId>{1, 403, 407, 261, 378});
    CHECK((*tokenizer)->vocab_size() == 512);
    CHECK((*tokenizer)->bos() == 1);
    CHECK((*tokenizer)->eos() == 2);
    CHECK((*tokenizer)->is_special(1));
    CHECK((*tokenizer)->token_bytes(1).empty());
    CHECK((*tokenizer)->token_bytes(403) == " Once");
    CHECK((*tokenizer)->find("<s>") == 1);
    CHECK_FALSE((*tokenizer)->find("no such piece"));
    CHECK(decode(*tokenizer, *ids) == "Once upon a time");
  }

  TEST_CASE(
      "Llama 3 puts its BOS before a text, and special tokens in it are read only on demand") {
    const std::filesystem::path file = kShared / "tokenizers/llama3/tokenizer.json";
    if (absent(file)) return;
    const auto tokenizer = open(file);
    CHECK(tokenizer->bos() == 128000);
    const auto plain = tokenizer->encode("a<|eot_id|>", {});
    REQUIRE(plain);
    CHECK(plain->front() == 128000);
    CHECK(plain->back() != 128009);
    CHECK(decode(tokenizer, *plain) == "a<|eot_id|>");
    const auto parsed =
        tokenizer->encode("a<|eot_id|>", {.add_special = false, .parse_special = true});
    REQUIRE(parsed);
    CHECK(*parsed == std::vector<TokenId>{64, 128009});
    CHECK(decode(tokenizer, *parsed) == "a");
  }

  TEST_CASE("a long SentencePiece text in parts is encoded as in one") {
    const std::filesystem::path folder = kShared / "tokenizers/llama2";
    if (absent(folder)) return;
    std::string text;
    for (int i = 0; text.size() < 300'000; ++i) {
      text += kTexts[static_cast<std::size_t>(i) % kTexts.size()] + std::to_string(i * 7919) + "  ";
    }
    const auto model = open(folder / "tokenizer.model");
    const auto json = open(folder / "tokenizer.json");
    const auto ids = model->encode(text, {.add_special = false});
    REQUIRE(ids);
    CHECK(*ids == *json->encode(text, {.add_special = false}));
    CHECK(decode(model, *ids) == text);
  }
}

}  // namespace
}  // namespace farmesh::text
