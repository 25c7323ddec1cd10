#include "sampling/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::sampling;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// sample(); by another name, because an unqualified call with vectors finds std::sample.
Result<Choice> choose(std::span<const float> logits, std::span<const TokenId> ids,
                      std::size_t output, std::uint64_t position, const SamplingOptions& options) {
  return farmesh::sampling::sample(logits, ids, output, position, options);
}

std::vector<float> random_logits(std::mt19937& random, std::size_t vocab, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

SamplingOptions plain(float temperature = 1) {
  SamplingOptions options;
  options.temperature = temperature;
  options.top_p = 1;
  return options;
}

/// The distribution by the definition: everything sorted, everything renormalised at each step.
std::map<TokenId, double> reference(std::vector<float> logits, std::span<const TokenId> ids,
                                    std::size_t output, const SamplingOptions& o) {
  std::vector<double> scores(logits.begin(), logits.end());
  for (const LogitBias& bias : o.logit_bias) scores[bias.token] += bias.bias;
  for (TokenId t = 0; t < scores.size(); ++t) {
    if (std::find(ids.begin(), ids.end(), t) != ids.end()) {
      scores[t] =
          scores[t] > 0 ? scores[t] / o.repetition_penalty : scores[t] * o.repetition_penalty;
    }
    const auto count = std::count(ids.end() - static_cast<std::ptrdiff_t>(output), ids.end(), t);
    if (count > 0)
      scores[t] -= o.presence_penalty + o.frequency_penalty * static_cast<double>(count);
  }
  std::vector<std::pair<double, TokenId>> tokens;
  const double greatest = *std::max_element(scores.begin(), scores.end());
  for (TokenId t = 0; t < scores.size(); ++t) {
    tokens.emplace_back(std::exp((scores[t] - greatest) / o.temperature), t);
  }
  const auto renormalise = [&tokens] {
    double sum = 0;
    for (const auto& [p, id] : tokens) sum += p;
    for (auto& [p, id] : tokens) p /= sum;
  };
  std::sort(tokens.begin(), tokens.end(), [](auto a, auto b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (o.top_k > 0 && o.top_k < tokens.size()) tokens.resize(o.top_k);
  renormalise();
  if (o.top_p < 1) {
    double reached = 0;
    std::size_t kept = 0;
    while (kept < tokens.size() && reached < o.top_p) reached += tokens[kept++].first;
    tokens.resize(std::max<std::size_t>(kept, 1));
  }
  const double floor = o.min_p * tokens[0].first;
  std::erase_if(tokens, [floor](const auto& token) { return token.first < floor; });
  renormalise();
  std::map<TokenId, double> distribution;
  for (const auto& [p, id] : tokens) distribution[id] = p;
  return distribution;
}

/// Draws at positions 0, 1, … and compares with `expected`: nothing outside its support, and
/// Pearson's statistic below the mean of its distribution plus five standard deviations.
void check_frequencies(const std::vector<float>& logits, std::span<const TokenId> ids,
                       std::size_t output, const SamplingOptions& options,
                       const std::map<TokenId, double>& expected) {
  constexpr int kDraws = 20'000;
  std::map<TokenId, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    const auto choice = choose(logits, ids, output, static_cast<std::uint64_t>(i), options);
    if (!choice || !expected.contains(choice->id)) FAIL("chose outside the support");
    ++counts[choice->id];
  }
  double statistic = 0;
  double rest_expected = 0;  // rare tokens share one cell
  double rest_seen = 0;
  int cells = 0;
  for (const auto& [id, p] : expected) {
    if (p * kDraws < 10) {
      rest_expected += p * kDraws;
      rest_seen += counts[id];
      continue;
    }
    statistic += std::pow(counts[id] - p * kDraws, 2) / (p * kDraws);
    ++cells;
  }
  if (rest_expected > 5) {
    statistic += std::pow(rest_seen - rest_expected, 2) / rest_expected;
    ++cells;
  }
  const double freedom = std::max(cells - 1, 1);
  CHECK(statistic < freedom + 5 * std::sqrt(2 * freedom) + 1);
}

}  // namespace

TEST_SUITE("sampling/sampler") {
  TEST_CASE("greedy takes the greatest logit, and the smallest id among equals") {
    const std::vector<float> logits{1, 3, 2, 3};
    CHECK(choose(logits, {}, 0, 0, plain(0))->id == 1);
    CHECK(choose(logits, {}, 0, 99, plain(0))->id == 1);
  }

  TEST_CASE("log-probabilities are of the unmodified distribution, the likeliest first") {
    const std::vector<float> logits{std::log(0.5f), std::log(0.25f), std::log(0.125f),
                                    std::log(0.125f)};
    SamplingOptions options = plain(0);
    options.top_logprobs = 3;
    options.logit_bias = {{2, 100}};
    const auto choice = choose(logits, {}, 0, 0, options);
    REQUIRE(choice);
    CHECK(choice->id == 2);
    CHECK(choice->logprob == doctest::Approx(std::log(0.125)));
    REQUIRE(choice->top.size() == 3);
    CHECK(choice->top[0].id == 0);
    CHECK(choice->top[0].logprob == doctest::Approx(std::log(0.5)));
    CHECK(choice->top[1].id == 1);
    CHECK(choice->top[2].id == 2);  // equal to 3: the smaller id
  }

  TEST_CASE("asking for more alternatives than tokens gives all tokens") {
    SamplingOptions options = plain(0);
    options.top_logprobs = 20;
    CHECK(choose(std::vector<float>{1, 2}, {}, 0, 0, options)->top.size() == 2);
  }

  TEST_CASE("each option alone gives the frequencies of its definition") {
    std::mt19937 random(1);
    const std::vector<float> logits = random_logits(random, 97, 2);
    const std::vector<TokenId> ids{3, 5, 5, 9, 3, 3, 20, 5};
    SamplingOptions options = plain();
    options.seed = 17;
    SUBCASE("temperature 1") {}
    SUBCASE("low temperature") { options.temperature = 0.3f; }
    SUBCASE("high temperature") { options.temperature = 3; }
    SUBCASE("top-k") { options.top_k = 7; }
    SUBCASE("top-p") { options.top_p = 0.8f; }
    SUBCASE("min-p") { options.min_p = 0.1f; }
    SUBCASE("repetition penalty") { options.repetition_penalty = 1.7f; }
    SUBCASE("presence penalty") { options.presence_penalty = 1.5f; }
    SUBCASE("frequency penalty") { options.frequency_penalty = 0.7f; }
    SUBCASE("logit bias") { options.logit_bias = {{4, 3.5f}, {90, -100}, {4, 0.5f}}; }
    SUBCASE("all together") {
      options = {0.8f, 40, 0.9f, 0.02f, 1.2f, 0.3f, -0.4f, {{4, 2.f}}, 3, 0};
    }
    check_frequencies(logits, ids, 5, options, reference(logits, ids, 5, options));
  }

  TEST_CASE("random options over random vocabularies never leave the support by definition") {
    std::mt19937 random(2);
    for (int round = 0; round < 300; ++round) {
      const std::size_t vocab = 1 + random() % 2'000;
      const std::vector<float> logits = random_logits(random, vocab, 0.1f + random() % 5);
      std::vector<TokenId> ids(random() % 30);
      for (TokenId& id : ids) id = static_cast<TokenId>(random() % vocab);
      const auto unit = [&random] { return static_cast<float>(random() % 1'000) / 1'000; };
      SamplingOptions options;
      options.temperature = 0.05f + 2 * unit();
      options.top_k = random() % 2 ? 0 : random() % 100;
      options.top_p = random() % 3 ? unit() : 1;
      options.min_p = random() % 3 ? 0 : unit();
      options.repetition_penalty = random() % 2 ? 1 : 0.5f + unit();
      options.seed = random();
      const std::size_t output = ids.empty() ? 0 : random() % ids.size();
      const auto expected = reference(logits, ids, output, options);
      for (int draw = 0; draw < 20; ++draw) {
        const auto choice = choose(logits, ids, output, random(), options);
        REQUIRE(choice);
        REQUIRE(expected.contains(choice->id));
      }
    }
  }

  TEST_CASE("a nucleus of a large flat vocabulary is exact in size") {
    const std::vector<float> logits(2'000, 0.5f);
    SamplingOptions options = plain();
    options.top_p = 0.25f;  // ids 0 to 499: ties go to the smaller id
    TokenId greatest = 0;
    for (std::uint64_t i = 0; i < 4'000; ++i) {
      greatest = std::max(greatest, choose(logits, {}, 0, i, options)->id);
    }
    CHECK(greatest < 500);
    CHECK(greatest > 490);
  }

  TEST_CASE("a top-p or top-k that leaves one token is greedy") {
    std::mt19937 random(3);
    const std::vector<float> logits = random_logits(random, 500, 1);
    const TokenId greedy = choose(logits, {}, 0, 0, plain(0))->id;
    SamplingOptions options = plain(1.5f);
    SUBCASE("top-p 0") { options.top_p = 0; }
    SUBCASE("top-k 1") { options.top_k = 1; }
    SUBCASE("min-p 1") { options.min_p = 1; }
    SUBCASE("a temperature near zero") { options.temperature = 1e-6f; }
    for (std::uint64_t i = 0; i < 200; ++i)
      REQUIRE(choose(logits, {}, 0, i, options)->id == greedy);
  }

  TEST_CASE("penalties look at prompt and output, or at the output only, as each is defined") {
    const std::vector<float> logits{2.0f, 1.9f, 1.0f};
    const std::vector<TokenId> ids{0, 1};  // 1 was generated, 0 is prompt
    SamplingOptions options = plain(0);
    CHECK(choose(logits, ids, 1, 2, options)->id == 0);
    options.repetition_penalty = 3;
    CHECK(choose(logits, ids, 1, 2, options)->id == 2);
    options.repetition_penalty = 1;
    options.presence_penalty = 2;
    CHECK(choose(logits, ids, 1, 2, options)->id == 0);
    CHECK(choose(logits, ids, 2, 2, options)->id == 2);
  }

  TEST_CASE("ids outside the vocabulary are ignored by the penalties") {
    SamplingOptions options = plain(0);
    options.repetition_penalty = 2;
    options.frequency_penalty = 1;
    const std::vector<TokenId> ids{7, 0xFFFFFFFF, 1};
    CHECK(choose(std::vector<float>{1, 2}, ids, 3, 3, options)->id == 0);
  }

  TEST_CASE("logits that are not finite are never chosen") {
    const std::vector<float> logits{kNan, 1, kInfinity, 0.5f, -kInfinity};
    CHECK(choose(logits, {}, 0, 0, plain(0))->id == 1);
    SamplingOptions options = plain(2);
    options.logit_bias = {{0, 100}, {2, 5}, {4, 100}};
    for (std::uint64_t i = 0; i < 500; ++i) {
      const auto choice = choose(logits, {}, 0, i, options);
      REQUIRE((choice->id == 1 || choice->id == 3));
      REQUIRE(std::isfinite(choice->logprob));
    }
  }

  TEST_CASE("logits without a finite value are a bad payload, and so are no logits at all") {
    for (const float temperature : {0.f, 1.f}) {
      CHECK(
          choose(std::vector<float>{kNan, -kInfinity}, {}, 0, 0, plain(temperature)).error().code ==
          Errc::bad_payload);
      CHECK(choose({}, {}, 0, 0, plain(temperature)).error().code == Errc::bad_payload);
    }
  }

  TEST_CASE("extreme finite logits stay finite through every option") {
    constexpr float kLargest = std::numeric_limits<float>::max();
    const std::vector<float> logits{kLargest, -kLargest, 0, kLargest};
    SamplingOptions options = plain(0.01f);
    options.logit_bias = {{0, 100}, {1, -100}};
    options.repetition_penalty = 0.01f;
    const std::vector<TokenId> ids{0, 1, 2, 3};
    for (std::uint64_t i = 0; i < 100; ++i) {
      const auto choice = choose(logits, ids, 4, i, options);
      REQUIRE(choice);
      REQUIRE((choice->id == 0 || choice->id == 3));
    }
  }

  TEST_CASE("options outside their ranges are refused with the field's name") {
    const auto refused = [](auto change) {
      SamplingOptions options;
      change(options);
      const auto result = validate(options, 100);
      REQUIRE_FALSE(result);
      CHECK(result.error().code == Errc::invalid_argument);
      return result.error().detail;
    };
    CHECK(validate({}, 100));
    CHECK(refused([](auto& o) { o.temperature = -1; }).starts_with("temperature"));
    CHECK(refused([](auto& o) { o.temperature = kNan; }).starts_with("temperature"));
    CHECK(refused([](auto& o) { o.top_p = 1.01f; }).starts_with("top_p"));
    CHECK(refused([](auto& o) { o.min_p = -0.1f; }).starts_with("min_p"));
    CHECK(refused([](auto& o) { o.repetition_penalty = 0; }).starts_with("repetition_penalty"));
    CHECK(refused([](auto& o) { o.presence_penalty = kInfinity; }).starts_with("presence_penalty"));
    CHECK(refused([](auto& o) { o.frequency_penalty = 3; }).starts_with("frequency_penalty"));
    CHECK(refused([](auto& o) { o.logit_bias = {{100, 0}}; }).starts_with("logit_bias"));
    CHECK(refused([](auto& o) { o.logit_bias = {{1, kNan}}; }).starts_with("logit_bias"));
    CHECK(refused([](auto& o) { o.logit_bias.resize(2'000); }).starts_with("logit_bias"));
    CHECK(refused([](auto& o) { o.top_logprobs = 21; }).starts_with("top_logprobs"));
  }

  // Golden ids: a change here changes what users with a fixed seed get, on every machine.
  TEST_CASE("a seed gives the same ids for ever") {
    std::vector<float> logits(1'000);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      logits[i] = static_cast<float>((i * 7'919) % 1'000) / 100;
    }
    SamplingOptions options;
    options.seed = 2'024;
    std::vector<TokenId> ids;
    for (std::uint64_t position = 0; position < 8; ++position) {
      ids.push_back(choose(logits, {}, 0, position, options)->id);
    }
    CHECK(ids == std::vector<TokenId>{420, 235, 284, 840, 556, 482, 272, 816});
  }
}
