// Patterns as tokenizers write them. What they match is in the pre-tokenizer goldens.
#include "text/regex.hpp"

#include "text/regex_syntax.hpp"
#include "unit/text/text_test_support.hpp"

namespace farmesh::text {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Result<Regex> regex = Regex::compile(pattern);
  REQUIRE_MESSAGE(regex, regex.error().to_string());
  std::vector<Stretch> stretches;
  REQUIRE(regex->cover(text, stretches));
  std::vector<std::string> found;
  std::size_t covered = 0;
  for (const Stretch& s : stretches) {
    CHECK(s.begin == covered);
    covered = s.end;
    if (s.matched) found.push_back(text.substr(s.begin, s.end - s.begin));
  }
  CHECK(covered == text.size());
  return found;
}

using Found = std::vector<std::string>;

TEST_SUITE("text/regex") {
  TEST_CASE("a quantifier after braces repeats the whole, as in Ruby") {
    CHECK(matches(R"(\p{N}{1,3}+)", "1234567") == Found{"1234567"});
    CHECK(matches(R"(\p{N}{1,3})", "1234567") == Found{"123", "456", "7"});
    CHECK(matches("a{,2}b", "aaab b") == Found{"aab", "b"});
    CHECK(matches("a{x", "a{x") == Found{"a{x"});
  }

  TEST_CASE("a possessive quantifier gives nothing back") {
    CHECK(matches(R"(\d++5)", "12345").empty());
    CHECK(matches(R"(\d+5)", "12345") == Found{"12345"});
  }

  TEST_CASE("empty matches neither repeat nor end the search") {
    CHECK(matches("a*", "baac") == Found{"", "aa", ""});
    CHECK(matches("", "éx") == Found{"", "", ""});
    CHECK(matches("x*", "").empty() == false);
  }

  TEST_CASE("lines, not the text, begin at ^ and end at $") {
    CHECK(matches("^b$", "a\nb\nc") == Found{"b"});
  }

  TEST_CASE("white space is Unicode's: a vowel separator is none, an ideographic space is one") {
    CHECK(matches(R"(\s)", "\u180E\u3000\u0085") == Found{"\u3000", "\u0085"});
    CHECK(matches(R"([^\S\n]+)", "\u180E \n\t") == Found{" ", "\t"});
  }

  TEST_CASE("a construct whose meaning could change is refused by name") {
    for (const std::string pattern :
         {"(?<name>a)", "(?i)a|(?i)b", "(a)\\1", "[a-z&&[^b]]", "[[:alpha:]]",
          "(*UTF)a",    "\\R",         "\\X",    "a{2}?",       "\\p{Nonsense}",
          "\\pL",       "(?(1)a)",     "(?R)",   "(?#c)",       "\\xFF",
          "\\K",        "[\\W]",       "(a",     "a)",          "[a",
          "*a",         "a\\"}) {
      CAPTURE(pattern);
      const Result<Regex> regex = Regex::compile(pattern);
      REQUIRE_FALSE(regex);
      CHECK(regex.error().code == Errc::model_unsupported);
    }
    CHECK(to_pcre2("\\R").error().detail == "pattern: the escape \\R");
    CHECK_FALSE(Regex::compile(std::string(100'000, 'a')));
    CHECK_FALSE(Regex::compile(std::string(1000, '(')));
  }
}

}  // namespace
}  // namespace farmesh::text
