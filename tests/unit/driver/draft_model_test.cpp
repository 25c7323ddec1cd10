#include "driver/draft_model.hpp"

#include <doctest/doctest.h>

#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using driver::DraftModel;

namespace {

const Tokens kPrompt{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

struct Draft : World {
  std::unique_ptr<DraftModel> model;
  ScriptedPeer* peer;

  Draft() {
    peer = &add("small", {0, kLayers});
    connect();
    make(options());
  }

  static driver::DraftModelOptions options() {
    driver::DraftModelOptions options;
    options.session.bytes[0] = 9;
    options.num_layers = kLayers;
    options.hidden_size = kHidden;
    options.vocab_size = 97;
    options.shared_ids = 97;
    options.max_position = 400;
    options.residual = DType::f32;
    return options;
  }

  void make(const driver::DraftModelOptions& options) {
    model = std::make_unique<DraftModel>(set, head, options);
  }

  Tokens guess(const Tokens& ids, std::uint32_t most) {
    std::optional<Tokens> guessed;
    model->guess(ids, most, [&guessed](Tokens tokens) { guessed = std::move(tokens); });
    loop.until([&] { return guessed.has_value(); });
    return *guessed;
  }

  /// What one engine alone goes on with, always the likeliest.
  Tokens likeliest(Tokens ids, std::uint32_t count) {
    const std::size_t before = ids.size();
    for (; count > 0; --count) {
      const std::vector<float> logits = last_logits(alone(head.embedded(ids)));
      ids.push_back(
          static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
    return {ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()};
  }

  /// Positions that were run since the last call, by step.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ran() {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;
    for (; told_ < peer->seen.steps.size(); ++told_) {
      const wire::Step& step = peer->seen.steps[told_];
      ranges.emplace_back(step.position, step.position + step.count);
    }
    return ranges;
  }

 private:
  std::size_t told_ = 0;
};

using Ranges = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

}  // namespace

TEST_SUITE("driver/draft_model") {
  TEST_CASE("a guess is what the small model itself would go on with") {
    Draft draft;
    CHECK(draft.guess(kPrompt, 5) == draft.likeliest(kPrompt, 5));
    CHECK(draft.ran() == Ranges{{0, 11}, {11, 12}, {12, 13}, {13, 14}, {14, 15}});
  }

  TEST_CASE("the cache follows what was verified: only what is new is run") {
    Draft draft;
    Tokens ids = kPrompt;
    const Tokens first = draft.guess(ids, 4);
    draft.ran();
    SUBCASE("all of a guess was right, and one token more") {
      ids.insert(ids.end(), first.begin(), first.end());
      ids.push_back(40);
      CHECK(draft.guess(ids, 2) == draft.likeliest(ids, 2));
      CHECK(draft.ran() == Ranges{{14, 16}, {16, 17}});
    }
    SUBCASE("two tokens of it were") {
      ids.insert(ids.end(), first.begin(), first.begin() + 2);
      ids.push_back(first[2] == 40 ? 41 : 40);
      CHECK(draft.guess(ids, 3) == draft.likeliest(ids, 3));
      CHECK(draft.ran() == Ranges{{13, 14}, {14, 15}, {15, 16}});
    }
    SUBCASE("none was") {
      ids.push_back(first[0] == 40 ? 41 : 40);
      CHECK(draft.guess(ids, 1) == draft.likeliest(ids, 1));
      CHECK(draft.ran() == Ranges{{11, 12}});
    }
    SUBCASE("nothing is new") {
      CHECK(draft.guess(ids, 4) == first);
      CHECK(draft.ran() == Ranges{{10, 11}, {11, 12}, {12, 13}, {13, 14}});
    }
    SUBCASE("the text is another one") {
      ids[3] = 50;
      CHECK(draft.guess(ids, 2) == draft.likeliest(ids, 2));
      CHECK(draft.ran() == Ranges{{3, 11}, {11, 12}});
    }
  }

  TEST_CASE("a long text is read in the background, and nothing is guessed until then") {
    Draft draft;
    draft.peer->script.step_time = 10ms;
    Tokens ids(100, 3);
    const TimePoint began = draft.loop.clock.now();
    CHECK(draft.guess(ids, 4).empty());
    CHECK(draft.loop.clock.now() == began);
    CHECK(draft.guess(ids, 4).empty());  // still reading
    draft.loop.pass(1s);
    ids.push_back(4);
    CHECK(draft.guess(ids, 4) == draft.likeliest(ids, 4));
  }

  TEST_CASE("asked for nothing it reads ahead") {
    Draft draft;
    CHECK(draft.guess(kPrompt, 0).empty());
    CHECK(draft.ran() == Ranges{{0, 11}});
    Tokens ids = kPrompt;
    ids.push_back(40);
    CHECK(draft.guess(ids, 2) == draft.likeliest(ids, 2));
    CHECK(draft.ran() == Ranges{{11, 12}, {12, 13}});
  }

  TEST_CASE("room for a long text is asked for as it grows") {
    Draft draft;
    Tokens ids = kPrompt;
    for (int i = 0; i < 120; ++i) {
      const Tokens guessed = draft.guess(ids, 3);
      REQUIRE(guessed.size() == 3);
      ids.insert(ids.end(), guessed.begin(), guessed.end());
    }
    CHECK(draft.peer->seen.opens.size() == 2);
    CHECK(ids == [&] {
      Tokens all = kPrompt;
      const Tokens rest = draft.likeliest(kPrompt, 360);
      all.insert(all.end(), rest.begin(), rest.end());
      return all;
    }());
  }

  TEST_CASE("nothing is guessed beyond the small model's context") {
    Draft draft;
    driver::DraftModelOptions small = Draft::options();
    small.max_position = 13;
    draft.make(small);
    CHECK(draft.guess(kPrompt, 8) == draft.likeliest(kPrompt, 3));  // the last of them is not run
    Tokens ids(13, 7);
    CHECK(draft.guess(ids, 8).size() == 1);
    ids.push_back(8);
    CHECK(draft.guess(ids, 8).empty());
    CHECK(draft.guess({}, 8).empty());
  }

  TEST_CASE("ids that the other model does not know are never guessed") {
    Draft draft;
    driver::DraftModelOptions few = Draft::options();
    few.shared_ids = 12;
    draft.make(few);
    const Tokens guessed = draft.guess(kPrompt, 8);
    REQUIRE(guessed.size() == 8);
    for (const TokenId id : guessed) CHECK(id < 12);
  }

  TEST_CASE("once it has failed it guesses no more, and nobody waits for that") {
    Draft draft;
    CHECK(draft.guess(kPrompt, 2).size() == 2);
    SUBCASE("in a forward pass") {
      draft.peer->script.fail_step = [](const wire::Step&) { return Errc::compute_failed; };
    }
    SUBCASE("because its stage went away") { draft.network.kill("small"); }
    SUBCASE("in the head") {
      draft.head.spoil_logits = [](std::vector<float>& logits) { logits.pop_back(); };
    }
    const TimePoint began = draft.loop.clock.now();
    CHECK(draft.guess(kPrompt, 2).empty());
    CHECK(draft.loop.clock.now() - began < 5s);
    draft.peer->script.fail_step = nullptr;
    draft.head.spoil_logits = nullptr;
    const std::size_t steps = draft.peer->seen.steps.size();
    CHECK(draft.guess(kPrompt, 2).empty());
    CHECK(draft.peer->seen.steps.size() == steps);
  }

  TEST_CASE("a stage without room is not waited for") {
    Draft draft;
    draft.peer->script.refuse_open = [](const wire::Open&) {
      return Error{Errc::no_cache_space, "full"};
    };
    const TimePoint began = draft.loop.clock.now();
    CHECK(draft.guess(kPrompt, 2).empty());
    CHECK(draft.loop.clock.now() - began < 1s);
  }

  TEST_CASE("destroyed in the middle of a guess it answers nobody and frees its pages") {
    Draft draft;
    draft.peer->script.step_time = 100ms;
    bool answered = false;
    draft.model->guess(kPrompt, 4, [&answered](const Tokens&) { answered = true; });
    draft.loop.pass(150ms);
    CHECK(draft.peer->open_sessions() == 1);
    draft.model.reset();
    draft.loop.pass(1s);
    CHECK_FALSE(answered);
    CHECK(draft.peer->open_sessions() == 0);
  }
}
