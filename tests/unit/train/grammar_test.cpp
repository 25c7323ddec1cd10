#include "train/grammar.hpp"

#include <set>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::train;

TEST_SUITE("train/grammar") {
  TEST_CASE("a phrase picks one of its alternatives, nested ones included") {
    const auto grammar = Grammar::parse("[colour]\nred\nblue\n", {});
    REQUIRE(grammar);
    Random random(1);
    std::set<std::string> seen;
    for (int i = 0; i < 200; ++i) {
      seen.insert(Telling(*grammar, random).expand("{a {big|small} one|<colour>}"));
    }
    CHECK(seen == std::set<std::string>{"a big one", "a small one", "red", "blue"});
  }

  TEST_CASE("a rule marked once keeps its choice within a telling") {
    const auto grammar = Grammar::parse("[=season]\nspring\nsummer\nautumn\nwinter\n", {});
    REQUIRE(grammar);
    Random random(2);
    for (int i = 0; i < 20; ++i) {
      Telling telling(*grammar, random);
      const std::string first = telling.expand("<season>");
      CHECK(telling.expand("<season>") == first);
    }
  }

  TEST_CASE("drawing a row binds all its columns, and <Slot> starts with a capital") {
    const auto grammar = Grammar::parse("[@pet: animal | sound]\ncat | {meow|purr}\n", {});
    REQUIRE(grammar);
    Random random(3);
    Telling telling(*grammar, random);
    telling.draw("pet");
    CHECK(telling.expand("<Animal>") == "Cat");
    const std::string sound = telling.expand("<sound>");
    CHECK((sound == "meow" || sound == "purr"));
  }

  TEST_CASE("text is tidied: one space, capitals after full stops, an before vowels") {
    CHECK(tidy("once  there was a owl. it sat in a  tree.") ==
          "Once there was an owl. It sat in a tree.");
    CHECK(tidy("\"oh!\" said the fox. \"a egg?\" it asked. \"no.\" then it left.") ==
          "\"Oh!\" said the fox. \"An egg?\" it asked. \"No.\" Then it left.");
  }

  TEST_CASE("a slot that nothing defines is refused by name") {
    const auto grammar = Grammar::parse("[story]\nA tale of <hero>.\n", {});
    REQUIRE_FALSE(grammar);
    CHECK(grammar.error().code == Errc::invalid_argument);
    CHECK(grammar.error().detail.find("<hero>") != std::string::npos);
    CHECK(Grammar::parse("[story]\nA tale of <hero>.\n", {"hero"}));
  }

  TEST_CASE("malformed files are refused with their line") {
    for (const char* text : {"loose words\n", "[rule]\n{a|b\n", "[rule]\na}\n", "[rule]\n<slot\n",
                             "[@table]\n", "[@table: a | b]\nonly one cell\n", "[rule\nx\n"}) {
      const auto grammar = Grammar::parse(text, {});
      REQUIRE_FALSE(grammar);
      CHECK(grammar.error().detail.find("grammar line ") == 0);
    }
  }

  TEST_CASE("a rule that shares its name with a column is refused") {
    CHECK_FALSE(Grammar::parse("[@plant: seed]\nbean\n[seed]\nA story.\n", {}));
  }
}
