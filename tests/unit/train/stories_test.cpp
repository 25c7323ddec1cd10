#include <algorithm>
#include <cctype>
#include <iterator>
#include <sstream>

#include <doctest/doctest.h>

#include "train/story_grammar.hpp"

using namespace farmesh;
using namespace farmesh::train;

namespace {

StoryGrammar stories() {
  auto grammar = StoryGrammar::open(FARMESH_SOURCE_DIR "/tools/train/grammar");
  REQUIRE_MESSAGE(grammar, grammar.error().to_string());
  return *std::move(grammar);
}

long words_in(const std::string& text) {
  std::istringstream in(text);
  return std::distance(std::istream_iterator<std::string>(in), {});
}

void check_prose(const std::string& text) {
  CHECK(text.find_first_of("<>{}|=") == std::string::npos);
  CHECK(text.find("  ") == std::string::npos);
  CHECK(
      (text.ends_with(".") || text.ends_with("\"") || text.ends_with("!") || text.ends_with("?")));
  CHECK(std::count(text.begin(), text.end(), '"') % 2 == 0);
  for (std::size_t i = 2; i < text.size(); ++i) {
    const bool after_stop = text[i - 1] == ' ' && (text[i - 2] == '.' || text[i - 2] == '!');
    if (after_stop) CHECK_FALSE(std::islower(static_cast<unsigned char>(text[i])));
  }
}

}  // namespace

TEST_SUITE("train/stories") {
  TEST_CASE("stories are whole prose of 60 to 260 words") {
    const StoryGrammar grammar = stories();
    for (std::uint64_t i = 0; i < 1000; ++i) {
      const Document document = grammar.document(1, i);
      if (document.story.empty()) continue;
      CAPTURE(document.story);
      const long words = words_in(document.story);
      CHECK(words >= 60);
      CHECK(words <= 260);
      check_prose(document.story);
    }
  }

  TEST_CASE("a document is a pure function of seed and index") {
    const StoryGrammar grammar = stories();
    const auto text = [&](std::uint64_t seed, std::uint64_t index) {
      const Document document = grammar.document(seed, index);
      return document.turns.empty() ? document.story : document.turns[0].reply;
    };
    CHECK(text(1, 7) == text(1, 7));
    CHECK(text(1, 7) != text(1, 8));
    CHECK(text(1, 7) != text(2, 7));
  }

  TEST_CASE("what a user asks for by name is in the story that answers") {
    const StoryGrammar grammar = stories();
    int named = 0;
    for (std::uint64_t i = 0; i < 4000; ++i) {
      for (const Turn& turn : grammar.document(1, i).turns) {
        CHECK_FALSE(turn.user.empty());
        check_prose(turn.reply);
        const std::size_t at = turn.user.find(" named ");
        if (at == std::string::npos) continue;
        std::string name = turn.user.substr(at + 7);
        name.erase(std::find_if_not(name.begin(), name.end(), ::isalpha), name.end());
        CAPTURE(turn.user);
        CHECK(turn.reply.find(name) != std::string::npos);
        ++named;
      }
    }
    CHECK(named > 20);
  }

  TEST_CASE("a folder without the rules is refused") {
    const auto grammar = StoryGrammar::open(FARMESH_SOURCE_DIR "/docs");
    REQUIRE_FALSE(grammar);
    CHECK(grammar.error().code == Errc::io_error);
  }
}
