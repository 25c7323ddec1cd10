#include "driver/guesses.hpp"

#include <doctest/doctest.h>

using namespace farmesh;
using driver::Acceptance;
using driver::Guesses;

namespace {

using Tokens = std::vector<TokenId>;

/// Answers at once, or when the test says so.
struct ScriptedGuesser final : driver::Guesser {
  void guess(std::span<const TokenId>, std::uint32_t most, Done done) override {
    asked.push_back(most);
    if (late) {
      waiting = std::move(done);
    } else {
      done(Tokens(std::min<std::size_t>(most, length), 77));
    }
  }

  std::size_t length = 100;
  bool late = false;
  Done waiting;
  std::vector<std::uint32_t> asked;
};

Tokens guess(Guesses& guesses, const Tokens& ids, std::uint32_t most) {
  const auto result = std::make_shared<Tokens>();
  guesses.guess(ids, most, [result](Tokens guessed) { *result = std::move(guessed); });
  return *result;
}

const Tokens kFresh{1, 2, 3, 4, 5, 6};
const Tokens kRepeated{1, 2, 3, 4, 5, 6, 1, 2, 3, 4};  // its last four stood there before
const Tokens kHalfRepeated{1, 2, 3, 4, 5, 6, 9, 3, 4};

}  // namespace

TEST_SUITE("driver/guesses") {
  TEST_CASE("a source is asked as far as the last token still comes true in a third of all cases") {
    Acceptance acceptance;
    for (int i = 0; i < 200; ++i) acceptance.judged(10, 9);  // nine in ten
    CHECK(acceptance.rate() == doctest::Approx(0.9).epsilon(0.06));
    CHECK(acceptance.length() >= 6);
    CHECK(acceptance.length() <= 12);
    for (int i = 0; i < 200; ++i) acceptance.judged(2, 1);  // one in two
    CHECK(acceptance.rate() == doctest::Approx(0.5).epsilon(0.1));
    CHECK(acceptance.length() == 1);
    for (int i = 0; i < 200; ++i) acceptance.judged(16, 16);
    CHECK(acceptance.length() == 16);
  }

  TEST_CASE("what is hardly ever right is asked for one token, now and then") {
    Acceptance acceptance;
    for (int i = 0; i < 200; ++i) acceptance.judged(1, 0);
    int asked = 0;
    for (int step = 0; step < 170; ++step) {
      const std::uint32_t length = acceptance.length();
      CHECK(length <= 1);
      if (length == 0) continue;
      ++asked;
      acceptance.judged(length, 0);
    }
    CHECK(asked == 10);
    while (acceptance.length() == 0) {
    }
    for (int i = 0; i < 40; ++i) acceptance.judged(1, 1);  // and is believed when it is right again
    while (acceptance.length() == 0) {
    }
    CHECK(acceptance.length() > 4);
  }

  TEST_CASE("tokens that were not tried tell nothing") {
    Acceptance one;
    Acceptance other;
    one.judged(1, 0);
    other.judged(16, 0);
    CHECK(one.rate() == other.rate());
    other.judged(0, 0);
    CHECK(one.rate() == other.rate());
  }

  TEST_CASE("without a model the text alone is looked at") {
    Guesses guesses(nullptr);
    CHECK(guess(guesses, kFresh, 8).empty());
    CHECK(guess(guesses, kRepeated, 2) == Tokens{5, 6});
    guesses.read(kRepeated);
  }

  TEST_CASE("the model guesses, but where the text repeats itself at length") {
    const auto model = std::make_shared<ScriptedGuesser>();
    Guesses guesses(model);
    CHECK(guess(guesses, kFresh, 8) == Tokens{77, 77, 77});
    CHECK(guess(guesses, kRepeated, 2) == Tokens{5, 6});
    CHECK(model->asked == std::vector<std::uint32_t>{3});
    SUBCASE("unless the model is right more often") {
      guesses.judged(2, 0);
      CHECK(guess(guesses, kRepeated, 2) == Tokens{77, 77});
    }
  }

  TEST_CASE("a model that has nothing to say, or is hardly ever right, leaves it to the text") {
    const auto model = std::make_shared<ScriptedGuesser>();
    Guesses guesses(model);
    CHECK(guess(guesses, kHalfRepeated, 8) == Tokens{77, 77, 77});
    SUBCASE("nothing to say") { model->length = 0; }
    SUBCASE("hardly ever right") {
      for (int i = 0; i < 40; ++i) guesses.judged(3, 0);
    }
    CHECK(guess(guesses, kHalfRepeated, 8) == Tokens{5, 6, 9, 3});
  }

  TEST_CASE("a turn that begins is told to the model") {
    const auto model = std::make_shared<ScriptedGuesser>();
    Guesses guesses(model);
    guesses.read(kFresh);
    CHECK(model->asked == std::vector<std::uint32_t>{0});
  }

  TEST_CASE("an answer that comes after the next question counts for nobody") {
    const auto model = std::make_shared<ScriptedGuesser>();
    Guesses guesses(model);
    model->late = true;
    CHECK(guess(guesses, kFresh, 8).empty());
    const auto late = std::move(model->waiting);
    CHECK(guess(guesses, kRepeated, 2) == Tokens{5, 6});
    for (int i = 0; i < 20; ++i) guesses.judged(2, 0);  // the text's
    late({77});
    guesses.judged(2, 0);
    model->late = false;
    Tokens longer = kRepeated;
    longer.push_back(50);
    CHECK(guess(guesses, longer, 8) == Tokens{77, 77, 77});  // the model's rate is as it was
  }
}
