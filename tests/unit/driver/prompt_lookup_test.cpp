#include "driver/prompt_lookup.hpp"

#include <doctest/doctest.h>

using namespace farmesh;
using driver::PromptLookup;

namespace {

using Tokens = std::vector<TokenId>;

}  // namespace

TEST_SUITE("driver/prompt_lookup") {
  TEST_CASE("text goes on as it went on the last time that the same tokens stood there") {
    PromptLookup lookup;
    CHECK(lookup.guess(Tokens{1, 2, 3, 4, 5, 9, 2, 3}, 3) == Tokens{4, 5, 9});
    SUBCASE("the latest occurrence counts") {
      CHECK(lookup.guess(Tokens{1, 2, 3, 4, 5, 9, 2, 3, 7, 2, 3}, 2) == Tokens{7, 2});
    }
    SUBCASE("the longest match counts, were it the older one") {
      CHECK(lookup.guess(Tokens{1, 2, 3, 4, 5, 9, 2, 3, 7, 1, 2, 3}, 2) == Tokens{4, 5});
    }
  }

  TEST_CASE("a short repetition goes on with itself") {
    PromptLookup lookup;
    CHECK(lookup.guess(Tokens{8, 1, 2, 1, 2}, 4) == Tokens{1, 2, 1, 2});
    PromptLookup other;
    CHECK(other.guess(Tokens{5, 5, 5}, 4) == Tokens{5, 5, 5, 5});
  }

  TEST_CASE("nothing is guessed from text that has not been there, or from too little") {
    PromptLookup lookup;
    CHECK(lookup.guess(Tokens{}, 4).empty());
    CHECK(lookup.guess(Tokens{1}, 4).empty());
    CHECK(lookup.guess(Tokens{1, 2, 3, 4, 5}, 4).empty());
    CHECK(lookup.guess(Tokens{1, 2, 3, 4, 5, 1, 2}, 0).empty());
  }

  TEST_CASE("guesses grow while they are right and shrink to what was right of the last") {
    Tokens ids;
    for (TokenId id = 0; id < 40; ++id) ids.push_back(id);
    for (TokenId id = 0; id < 4; ++id) ids.push_back(id);
    PromptLookup lookup;
    CHECK(lookup.guess(ids, 64).size() == 4);
    lookup.judged(4, 4);
    CHECK(lookup.guess(ids, 64).size() == 8);
    lookup.judged(8, 8);
    lookup.judged(16, 16);
    CHECK(lookup.guess(ids, 64).size() == 16);
    CHECK(lookup.guess(ids, 5).size() == 5);
    lookup.judged(16, 5);
    CHECK(lookup.guess(ids, 64).size() == 6);
    lookup.judged(0, 0);  // none was made
    CHECK(lookup.guess(ids, 64).size() == 6);
  }

  TEST_CASE("after misses a longer match is asked for, after a hit a short one will do") {
    const Tokens ids{1, 2, 3, 9, 2, 3};
    PromptLookup lookup;
    lookup.judged(4, 0);
    CHECK(lookup.guess(ids, 4).empty());
    lookup.judged(4, 1);
    CHECK(lookup.guess(ids, 4) == Tokens{9, 2});
  }
}
