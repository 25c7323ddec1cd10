#include "driver/generator.hpp"

#include <cmath>
#include <limits>
#include <map>

#include <doctest/doctest.h>

#include "sampling/sampler.hpp"
#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using driver::Generator;
using driver::Turn;
using wire::Finish;

namespace {

struct Story : World {
  std::vector<wire::TokenMessage> told;
  std::unique_ptr<Generator> generator;

  Story() {
    add("a", {0, 3});
    add("b", {3, 6});
    connect();
  }

  driver::GeneratorOptions options(std::uint32_t context = 300) const {
    driver::GeneratorOptions options;
    options.session.bytes[0] = 1;
    options.num_layers = kLayers;
    options.hidden_size = kHidden;
    options.vocab_size = 97;
    options.max_position = context;
    options.page_tokens = kPageTokens;
    options.residual = DType::f32;
    options.prefix_key = {1, 2, 3};
    options.chain.max_chunk_rows = 8;
    return options;
  }

  Result<Finish> generate(
      Turn turn, std::function<bool()> go_on = [] { return true; }) {
    if (!generator) generator = std::make_unique<Generator>(set, head, options(), record());
    return loop.run(generator->generate(std::move(turn), [this, go_on](const auto& message) {
      told.push_back(message);
      return go_on();
    }));
  }

  Tokens told_ids() const {
    Tokens ids;
    for (const auto& message : told) ids.push_back(message.id);
    return ids;
  }

  /// What one engine with all layers and a loop of ten lines generates after `ids`.
  Tokens reference(Tokens ids, std::uint32_t count, const SamplingOptions& sampling,
                   std::size_t output = 0) {
    Tokens generated;
    for (; count > 0; --count) {
      const std::vector<float> logits = last_logits(alone(head.embedded(ids)));
      const auto choice = sampling::sample(logits, ids, output++, ids.size(), sampling);
      REQUIRE(choice);
      ids.push_back(choice->id);
      generated.push_back(choice->id);
    }
    return generated;
  }
};

Finish finish_of(const Result<Finish>& finish) {
  REQUIRE(finish);
  return *finish;
}

SamplingOptions greedy() {
  SamplingOptions options;
  options.temperature = 0;
  return options;
}

SamplingOptions warm() {
  SamplingOptions options;
  options.temperature = 1;
  options.top_p = 0.95f;
  options.repetition_penalty = 1.1f;
  options.presence_penalty = 0.5f;
  options.seed = 99;
  return options;
}

Turn turn(Tokens ids, std::uint32_t max_tokens, SamplingOptions sampling = greedy()) {
  Turn turn;
  turn.ids = std::move(ids);
  turn.max_tokens = max_tokens;
  turn.sampling = std::move(sampling);
  return turn;
}

const Tokens kPrompt{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/// A small model in the test's hands: knows a text, and leaves it where the script says so.
struct ScriptedDraft final : driver::Guesser {
  ScriptedDraft(net::Clock& c, Tokens t) : clock(c), text(std::move(t)) {}

  void guess(std::span<const TokenId> ids, std::uint32_t most, Done done) override {
    ++asked;
    if (most == 0) return done({});
    if (silent) return;
    Tokens guessed;
    for (std::size_t at = ids.size(); at < text.size() && guessed.size() < most; ++at) {
      const bool wrong = wrong_every > 0 && at % wrong_every == 0;
      guessed.push_back(wrong ? (text[at] + 1) % 97 : text[at]);
    }
    if (spoil) spoil(guessed);
    clock.call_at(clock.now() + token_time * most,
                  [guessed = std::move(guessed), done = std::move(done)] { done(guessed); });
  }

  net::Clock& clock;
  Tokens text;
  std::size_t wrong_every = 0;  // positions; 0: never
  Duration token_time = 1ms;
  bool silent = false;
  std::function<void(Tokens&)> spoil;
  int asked = 0;
};

Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Turn guessing(Turn turn, std::uint32_t max_draft = 8) {
  turn.max_draft = max_draft;
  return turn;
}

/// A story whose driver has a small model that knows the text.
struct DraftedStory : Story {
  Tokens expected;
  std::shared_ptr<ScriptedDraft> draft;

  explicit DraftedStory(const SamplingOptions& sampling, std::uint32_t tokens = 40) {
    expected = reference(kPrompt, tokens, sampling);
    draft = std::make_shared<ScriptedDraft>(loop.clock, joined(kPrompt, expected));
    driver::GeneratorOptions with_draft = options();
    with_draft.draft_model = draft;
    generator = std::make_unique<Generator>(set, head, with_draft, record());
  }
};

}  // namespace

TEST_SUITE("driver/generator") {
  TEST_CASE("the tokens are those of one engine alone, greedy or sampled") {
    for (const SamplingOptions& sampling : {greedy(), warm()}) {
      Story story;
      const auto finish = story.generate(turn(kPrompt, 20, sampling));
      REQUIRE(finish);
      CHECK(*finish == Finish::length);
      CHECK(story.told_ids() == story.reference(kPrompt, 20, sampling));
      CHECK(story.generator->ids().size() == kPrompt.size() + 20);
    }
  }

  TEST_CASE("tokens are numbered, and the route is told with the first and after a change") {
    Story story;
    story.add("c", {3, 6});
    story.connect();
    int left = 5;
    REQUIRE(story.generate(turn(kPrompt, 10), [&] {
      if (--left == 0) story.network.kill("b");
      return true;
    }));
    REQUIRE(story.told.size() == 10);
    for (std::uint32_t i = 0; i < 10; ++i) {
      CHECK(story.told[i].index == i);
      CHECK(story.told[i].has_token);
      CHECK(story.told[i].finish == Finish::none);
      CHECK(story.told[i].times.size() == 2);
      CHECK(story.told[i].route.empty() == (i != 0 && i != 5));
    }
    CHECK(story.told[5].route[1].address == "c:1");
    CHECK(story.told_ids() == story.reference(kPrompt, 10, greedy()));
    CHECK(story.generator->recoveries() == 1);
    REQUIRE(story.generator->committed().size() == 2);
    CHECK(story.generator->committed()[1].begin == kPrompt.size() + 4);
  }

  TEST_CASE("a stop token is told and ends the turn") {
    Story story;
    const Tokens expected = story.reference(kPrompt, 20, greedy());
    Turn stopped = turn(kPrompt, 20);
    stopped.stop_tokens = {expected[7]};
    const auto first = std::find(expected.begin(), expected.end(), expected[7]);
    const auto finish = story.generate(stopped);
    REQUIRE(finish);
    CHECK(*finish == Finish::stop);
    CHECK(story.told_ids() == Tokens(expected.begin(), first + 1));
  }

  TEST_CASE("max_tokens 0 runs the prompt and tells nothing; the next turn goes on from it") {
    Story story;
    const auto finish = story.generate(turn(kPrompt, 0));
    REQUIRE(finish);
    CHECK(*finish == Finish::length);
    CHECK(story.told.empty());
    CHECK(story.peers[0]->seen.steps.size() == 2);
    REQUIRE(story.generate(turn({}, 5)));
    CHECK(story.told_ids() == story.reference(kPrompt, 5, greedy()));
  }

  TEST_CASE("a million tokens are clipped to the context") {
    Story story;
    story.generator = std::make_unique<Generator>(story.set, story.head, story.options(30));
    const auto finish = story.generate(turn(kPrompt, 1'000'000));
    REQUIRE(finish);
    CHECK(*finish == Finish::length);
    CHECK(story.generator->ids().size() == 30);
    CHECK(story.peers[0]->seen.opens[0].max_positions == 29);  // the last one is not run
    const auto full = story.generate(turn({}, 5));
    REQUIRE(full);
    CHECK(*full == Finish::length);
    CHECK(story.generate(turn({1}, 5)).error().code == Errc::context_exceeded);
  }

  TEST_CASE("what cannot be asked is refused before any peer hears of it") {
    Story story;
    CHECK(story.generate(turn({}, 5)).error().code == Errc::invalid_argument);
    CHECK(story.generate(turn({97}, 5)).error().code == Errc::invalid_argument);
    CHECK(story.generate(turn(Tokens(301, 1), 5)).error().code == Errc::context_exceeded);
    SamplingOptions hot = greedy();
    hot.temperature = -1;
    CHECK(story.generate(turn({1}, 5, hot)).error().code == Errc::invalid_argument);
    Turn emitted = turn({1}, 5);
    emitted.emitted = 2;
    CHECK(story.generate(emitted).error().code == Errc::invalid_argument);
    CHECK(story.generator->ids().empty());
    CHECK(story.peers[0]->seen.opens.empty());
  }

  TEST_CASE("a further turn goes on in the same cache, the last token of the former included") {
    Story story;
    REQUIRE(story.generate(turn(kPrompt, 5, warm())));
    Tokens all = story.generator->ids();
    story.told.clear();
    const Tokens question{40, 41, 42};
    all.insert(all.end(), question.begin(), question.end());
    REQUIRE(story.generate(turn(question, 5, warm())));
    CHECK(story.told_ids() == story.reference(all, 5, warm()));
    CHECK(story.told[0].index == 0);
    for (const auto& step : story.peers[0]->seen.steps) CHECK_FALSE(step.replay);
    CHECK(story.peers[0]->seen.opens.size() == 2);                // the second raises the promise
    CHECK(story.peers[0]->seen.opens[1].page_names.size() == 4);  // 19 tokens
  }

  TEST_CASE("another driver takes over from ids, emitted and seed alone with the same tokens") {
    Story story;
    const Tokens expected = story.reference(kPrompt, 30, warm());
    Turn taken = turn(kPrompt, 30, warm());
    taken.ids.insert(taken.ids.end(), expected.begin(), expected.begin() + 12);
    taken.emitted = 12;
    REQUIRE(story.generate(taken));
    CHECK(story.told_ids() == Tokens(expected.begin() + 12, expected.end()));
    CHECK(story.told.front().index == 12);
    CHECK(story.told.back().index == 29);
  }

  TEST_CASE("the callback can end the turn at any token, which frees every peer at once") {
    Story story;
    int left = 3;
    const auto finish = story.generate(turn(kPrompt, 20), [&] { return --left > 0; });
    REQUIRE(finish);
    CHECK(*finish == Finish::cancelled);
    CHECK(story.told.size() == 3);
    story.loop.pass(10ms);
    CHECK(story.peers[0]->open_sessions() == 0);
    CHECK(story.peers[1]->open_sessions() == 0);

    story.told.clear();  // and the next turn opens the chain again
    const Tokens ids = story.generator->ids();
    REQUIRE(story.generate(turn({}, 4)));
    CHECK(story.told_ids() == story.reference(ids, 4, greedy()));
  }

  TEST_CASE("cancel ends a turn wherever it waits") {
    Story story;
    story.generator = std::make_unique<Generator>(story.set, story.head, story.options());
    TimePoint start = story.loop.clock.now();
    SUBCASE("for a peer") { story.peers[1]->script.step_time = 10s; }
    SUBCASE("for the head") { story.head.hold = true; }
    SUBCASE("for a peer that does not answer open") { story.peers[1]->script.silent = true; }
    story.loop.clock.call_at(story.loop.after(500ms), [&] { story.generator->cancel(); });
    const auto finish = story.generate(turn(kPrompt, 5));
    REQUIRE(finish);
    CHECK(*finish == Finish::cancelled);
    CHECK(story.loop.clock.now() - start <= 501ms);
    story.loop.pass(20s);
    CHECK(story.peers[0]->open_sessions() == 0);
  }

  TEST_CASE("a generator destroyed in mid-turn ends it and frees every peer") {
    Story story;
    story.peers[1]->script.step_time = 10s;
    auto generator = std::make_unique<Generator>(story.set, story.head, story.options());
    auto task = generator->generate(turn(kPrompt, 5), [](const auto&) { return true; });
    story.loop.clock.call_at(story.loop.after(500ms), [&] { generator.reset(); });
    const auto finish = story.loop.run(std::move(task));
    REQUIRE(finish);
    CHECK(*finish == Finish::cancelled);
    story.loop.pass(20s);
    CHECK(story.peers[0]->open_sessions() == 0);
  }

  TEST_CASE("two turns at once are refused") {
    Story story;
    Generator generator(story.set, story.head, story.options());
    auto first = generator.generate(turn(kPrompt, 5), [](const auto&) { return true; });
    Result<Finish> refused = Finish::none;
    story.loop.clock.call_at(story.loop.after(20ms), [&] {
      struct Second {
        static net::Task<void> run(Generator& generator, Result<Finish>& result) {
          auto task = generator.generate(turn({1}, 5), [](const auto&) { return true; });
          result = co_await std::move(task);
        }
      };
      net::spawn(story.loop.clock.executor(), "second", Second::run(generator, refused));
    });
    REQUIRE(story.loop.run(std::move(first)));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
    CHECK(generator.ids().size() == kPrompt.size() + 5);
  }

  TEST_CASE("a head that gives no numbers fails the turn with compute_failed") {
    Story story;
    story.head.spoil_logits = [](auto& logits) {
      logits[50] = std::numeric_limits<float>::quiet_NaN();
    };
    const auto finish = story.generate(turn(kPrompt, 5));
    REQUIRE_FALSE(finish);
    CHECK(finish.error().code == Errc::compute_failed);
    story.head.spoil_logits = nullptr;
    REQUIRE(story.generate(turn({}, 5)));
    CHECK(story.told_ids() == story.reference(kPrompt, 5, greedy()));
  }

  TEST_CASE("a failed turn keeps what was told, and a turn without new ids goes on from there") {
    Story story;
    const Tokens expected = story.reference(kPrompt, 12, greedy());
    int left = 4;
    const auto lost = story.generate(turn(kPrompt, 12), [&] {
      if (--left == 0) story.network.kill("b");
      return true;
    });
    REQUIRE_FALSE(lost);
    CHECK(lost.error().code == Errc::no_route);
    CHECK(story.told.size() == 4);
    story.network.revive("b");
    Turn rest = turn({}, 12);
    rest.emitted = 4;
    REQUIRE(story.generate(rest));
    CHECK(story.told_ids() == expected);
    CHECK(story.told.back().index == 11);
  }

  TEST_CASE("log-probabilities of the alternatives are told when asked for") {
    Story story;
    SamplingOptions options = greedy();
    options.top_logprobs = 3;
    REQUIRE(story.generate(turn(kPrompt, 2, options)));
    REQUIRE(story.told[0].top.size() == 3);
    CHECK(story.told[0].top[0].id == story.told[0].id);
    CHECK(story.told[0].top[0].logprob == story.told[0].logprob);
  }

  TEST_CASE("guessed ahead or not, the tokens are the same, and guesses that repeat save steps") {
    for (const bool is_greedy : {true, false}) {
      SamplingOptions sampling = is_greedy ? greedy() : SamplingOptions{};
      sampling.seed = 5;
      sampling.temperature = is_greedy ? 0 : 1;
      // Two tokens only: guesses are right about as often as wrong.
      sampling.logit_bias = {{40, 100}, {41, 100}};
      Story plain;
      REQUIRE(finish_of(plain.generate({{1, 2, 3}, 0, 60, sampling, {}})) == Finish::length);
      Story guessing;
      REQUIRE(finish_of(guessing.generate({{1, 2, 3}, 0, 60, sampling, {}, 8})) == Finish::length);
      CHECK(guessing.told_ids() == plain.told_ids());
      CHECK(guessing.told_ids() == plain.reference({1, 2, 3}, 60, sampling));
      for (std::uint32_t i = 0; i < 60; ++i) CHECK(guessing.told[i].index == i);
      CHECK(guessing.generator->committed().back().end == 62);  // the last is not run
    }
  }

  TEST_CASE("a draft model's guesses, right or wrong, change no token; the right ones save steps") {
    for (const SamplingOptions& sampling : {greedy(), warm()}) {
      for (const std::size_t wrong_every : {0, 1, 2, 5}) {
        DraftedStory story(sampling);
        story.draft->wrong_every = wrong_every;
        REQUIRE(finish_of(story.generate(guessing(turn(kPrompt, 40, sampling)))) == Finish::length);
        CHECK(story.told_ids() == story.expected);
        for (std::uint32_t i = 0; i < 40; ++i) CHECK(story.told[i].index == i);
        CHECK(story.generator->committed().back().end == kPrompt.size() + 39);
        const std::size_t steps = story.peers[0]->seen.steps.size() - 2;  // of the prompt
        if (wrong_every == 0) CHECK(steps <= 10);
        if (wrong_every == 5) CHECK(steps <= 22);
        if (wrong_every == 1) CHECK(steps == 39);
      }
    }
  }

  TEST_CASE("a draft model changes no token when a peer is lost in the middle of its guesses") {
    for (const SamplingOptions& sampling : {greedy(), warm()}) {
      DraftedStory story(sampling);
      story.add("c", {3, 6});
      story.connect();
      story.draft->wrong_every = 4;
      int left = 13;
      REQUIRE(story.generate(guessing(turn(kPrompt, 40, sampling)), [&] {
        if (--left == 0) story.network.kill("b");
        return true;
      }));
      CHECK(story.told_ids() == story.expected);
      CHECK(story.generator->recoveries() == 1);
    }
  }

  TEST_CASE(
      "a draft model that does not answer is waited for once in a while, and then goes without") {
    DraftedStory story(greedy(), 4);
    story.draft->silent = true;
    const TimePoint began = story.loop.clock.now();
    REQUIRE(finish_of(story.generate(guessing(turn(kPrompt, 4)))) == Finish::length);
    CHECK(story.told_ids() == story.expected);
    CHECK(story.loop.clock.now() - began < 20s);
  }

  TEST_CASE("a draft model that guesses what cannot be is only not believed") {
    DraftedStory story(greedy());
    SUBCASE("ids outside the vocabulary") {
      story.draft->spoil = [](Tokens& guessed) { guessed.back() = 97; };
    }
    SUBCASE("more than was asked for") {
      story.draft->spoil = [](Tokens& guessed) { guessed.resize(1'000, 3); };
    }
    REQUIRE(finish_of(story.generate(guessing(turn(kPrompt, 40)))) == Finish::length);
    CHECK(story.told_ids() == story.expected);
    for (const auto& step : story.peers[0]->seen.steps) CHECK(step.count <= 9);
  }

  TEST_CASE("cancel ends a turn that waits for its draft model") {
    DraftedStory story(greedy());
    story.draft->silent = true;
    story.loop.clock.call_at(story.loop.after(500ms), [&] { story.generator->cancel(); });
    const TimePoint began = story.loop.clock.now();
    REQUIRE(finish_of(story.generate(guessing(turn(kPrompt, 40)))) == Finish::cancelled);
    CHECK(story.loop.clock.now() - began <= 501ms);
  }

  TEST_CASE("without max_draft no draft model is asked") {
    DraftedStory story(greedy(), 6);
    REQUIRE(finish_of(story.generate(turn(kPrompt, 6))) == Finish::length);
    CHECK(story.draft->asked == 0);
  }

  TEST_CASE("sampled texts that were guessed ahead have the distribution of the model") {
    // Three words, two tokens: nine texts, whose probabilities the model's own logits give.
    constexpr TokenId kFirst = 40;
    constexpr std::uint32_t kWords = 3;
    constexpr int kTexts = 1'500;
    SamplingOptions sampling;
    sampling.temperature = 12;  // its logits lie far apart
    sampling.top_p = 1;
    for (TokenId id = 0; id < 97; ++id) {
      sampling.logit_bias.push_back({id, id >= kFirst && id < kFirst + kWords ? 100.f : -100.f});
    }
    Story story;
    const auto probabilities = [&](const Tokens& ids) {
      const std::vector<float> logits = last_logits(alone(story.head.embedded(ids)));
      std::vector<double> words(kWords);
      double sum = 0;
      for (std::uint32_t i = 0; i < kWords; ++i) {
        sum += words[i] = std::exp(double(logits[kFirst + i]) / double(sampling.temperature));
      }
      for (double& word : words) word /= sum;
      return words;
    };
    const Tokens prompt{1, 2, 3};
    std::map<Tokens, double> expected;
    const std::vector<double> first = probabilities(prompt);
    for (std::uint32_t i = 0; i < kWords; ++i) {
      const std::vector<double> second = probabilities(joined(prompt, {kFirst + i}));
      for (std::uint32_t j = 0; j < kWords; ++j) {
        expected[{kFirst + i, kFirst + j}] = first[i] * second[j] * kTexts;
      }
    }
    // The draft's guess is always the same: were it taken too readily, it would be told too often.
    const auto most = std::max_element(expected.begin(), expected.end(),
                                       [](auto& a, auto& b) { return a.second < b.second; });
    std::map<Tokens, int> told;
    for (int seed = 0; seed < kTexts; ++seed) {
      driver::GeneratorOptions options = story.options();
      options.session.bytes[1] = static_cast<std::uint8_t>(seed);
      options.session.bytes[2] = static_cast<std::uint8_t>(seed >> 8);
      options.prefix_key.clear();
      options.draft_model =
          std::make_shared<ScriptedDraft>(story.loop.clock, joined(prompt, most->first));
      story.generator = std::make_unique<Generator>(story.set, story.head, options);
      story.told.clear();
      sampling.seed = static_cast<std::uint64_t>(seed);
      REQUIRE(finish_of(story.generate({prompt, 0, 3, sampling, {}, 8})) == Finish::length);
      ++told[{story.told[0].id, story.told[1].id}];
    }
    double chi_square = 0;
    for (const auto& [text, count] : expected) {
      REQUIRE(count > 5);
      chi_square += (told[text] - count) * (told[text] - count) / count;
    }
    CHECK(chi_square < 31.8);  // 8 degrees of freedom: passed by chance once in ten thousand
  }

  TEST_CASE("a guess that holds the end does not go beyond it") {
    SamplingOptions one = greedy();
    one.logit_bias = {{40, 100}};
    Story story;
    REQUIRE(finish_of(story.generate({{1, 2, 3}, 0, 10, one, {}, 16})) == Finish::length);
    CHECK(story.told_ids() == Tokens(10, 40));
    CHECK(story.generator->ids().size() == 13);
    CHECK(story.generator->committed().back().end == 12);

    SUBCASE("a further turn stops at its stop token, in the middle of a guess") {
      story.told.clear();
      REQUIRE(finish_of(story.generate({{40, 40, 41}, 0, 10, one, {}, 16})) == Finish::length);
      story.told.clear();
      REQUIRE(finish_of(story.generate({{7}, 0, 10, one, {40}, 16})) == Finish::stop);
      CHECK(story.told_ids() == Tokens{40});
    }
    SUBCASE("and one that its user ends is cut there") {
      story.told.clear();
      int left = 6;
      REQUIRE(finish_of(story.generate({{}, 0, 10, one, {}, 16}, [&left] { return --left > 0; })) ==
              Finish::cancelled);
      CHECK(story.told.size() == 6);
      CHECK(story.generator->committed().back().end == story.generator->ids().size() - 1);
    }
  }
}
