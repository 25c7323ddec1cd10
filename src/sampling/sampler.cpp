#include "sampling/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "sampling/wide_loops.hpp"

namespace farmesh::sampling {
namespace {

constexpr std::uint32_t kMaxTopLogprobs = 20;
constexpr std::size_t kMaxBiases = 1'024;

struct Candidate {
  double weight = 0;  // unnormalised probability; the likeliest token's is 1
  float score = 0;
  TokenId id = 0;
};

/// A strict total order, so that a sorted prefix is the same whatever the library's algorithm.
bool likelier(const Candidate& a, const Candidate& b) noexcept {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

float clamped(double value) noexcept {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kLargest, kLargest));
}

/// Calls fn(id, count) once for each distinct id below `vocab`.
template <class Fn>
void for_each_distinct(std::span<const TokenId> ids, std::size_t vocab, Fn fn) {
  std::vector<TokenId> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t begin = 0; begin < sorted.size() && sorted[begin] < vocab;) {
    std::size_t end = begin + 1;
    while (end < sorted.size() && sorted[end] == sorted[begin]) ++end;
    fn(sorted[begin], end - begin);
    begin = end;
  }
}

bool adjusts(const SamplingOptions& options) noexcept {
  return !options.logit_bias.empty() || options.repetition_penalty != 1 ||
         options.presence_penalty != 0 || options.frequency_penalty != 0;
}

/// Logit bias, then the repetition penalty, then presence and frequency. Values that are not
/// finite stay as they are: such a token cannot be chosen.
std::vector<float> adjusted(std::span<const float> logits, std::span<const TokenId> ids,
                            std::size_t output, const SamplingOptions& options) {
  std::vector<float> scores(logits.begin(), logits.end());
  const auto change = [&](TokenId id, double value) {
    if (std::isfinite(scores[id])) scores[id] = clamped(value);
  };
  for (const LogitBias& bias : options.logit_bias) {
    if (bias.token < scores.size()) change(bias.token, double{scores[bias.token]} + bias.bias);
  }
  if (options.repetition_penalty != 1) {
    const double penalty = options.repetition_penalty;
    for_each_distinct(ids, scores.size(), [&](TokenId id, std::size_t) {
      const double score = scores[id];
      change(id, score > 0 ? score / penalty : score * penalty);
    });
  }
  if (options.presence_penalty != 0 || options.frequency_penalty != 0) {
    const double presence = options.presence_penalty;
    const double frequency = options.frequency_penalty;
    const auto generated = ids.last(std::min(output, ids.size()));
    for_each_distinct(generated, scores.size(), [&](TokenId id, std::size_t count) {
      change(id, scores[id] - presence - frequency * static_cast<double>(count));
    });
  }
  return scores;
}

/// The smallest id among the greatest finite scores; `scores.size()` when none is finite.
std::size_t argmax(std::span<const float> scores) noexcept {
  const auto first = std::find(scores.begin(), scores.end(), greatest_finite(scores));
  return first != scores.end() && std::isfinite(*first)
             ? static_cast<std::size_t>(first - scores.begin())
             : scores.size();
}

double sum_of_weights(std::span<const Candidate> candidates) noexcept {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.weight;
  return sum;
}

/// All tokens of positive probability at `temperature`, in order of id.
std::vector<Candidate> weighted(std::span<const float> scores, float greatest, float temperature) {
  constexpr std::size_t kBlock = 256;
  double weights[kBlock];
  std::vector<Candidate> candidates;
  candidates.reserve(scores.size());
  for (std::size_t begin = 0; begin < scores.size(); begin += kBlock) {
    const std::span<const float> block =
        scores.subspan(begin, std::min(kBlock, scores.size() - begin));
    exp_weights(block, greatest, temperature, weights);
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (weights[i] > 0) {
        candidates.push_back({weights[i], block[i], static_cast<TokenId>(begin + i)});
      }
    }
  }
  return candidates;
}

void keep_top_k(std::vector<Candidate>& candidates, std::size_t k) {
  if (k >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(k),
                   candidates.end(), likelier);
  candidates.resize(k);
  std::sort(candidates.begin(), candidates.end(), likelier);
}

/// Leaves the fewest likeliest tokens whose probabilities reach `top_p`, likeliest first.
void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  const double total = sum_of_weights(candidates);
  // Tokens below this floor weigh less than 1 - top_p together, so they come after the nucleus.
  const double floor = (1 - top_p) * total / static_cast<double>(candidates.size()) * (1 - 1e-6);
  std::erase_if(candidates, [floor](const Candidate& c) { return c.weight < floor; });

  // The nucleus is mostly short: sort a prefix, and a longer one only while that is not enough.
  const double target = top_p * total;
  double reached = 0;
  std::size_t sorted = 0;
  for (std::size_t length = 64; sorted < candidates.size(); length *= 4) {
    const std::size_t end = std::min(length, candidates.size());
    const auto from = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
    const auto to = candidates.begin() + static_cast<std::ptrdiff_t>(end);
    if (end < candidates.size()) std::nth_element(from, to, candidates.end(), likelier);
    std::sort(from, to, likelier);
    for (; sorted < end; ++sorted) {
      reached += candidates[sorted].weight;
      if (reached >= target) {
        candidates.resize(sorted + 1);
        return;
      }
    }
  }
}

TokenId draw(std::span<const float> scores, std::size_t best, std::uint64_t position,
             const SamplingOptions& options) {
  std::vector<Candidate> candidates = weighted(scores, scores[best], options.temperature);
  if (options.top_k > 0) keep_top_k(candidates, options.top_k);
  if (options.top_p < 1) keep_top_p(candidates, options.top_p);
  if (options.min_p > 0) {
    const double floor = options.min_p;
    std::erase_if(candidates, [floor](const Candidate& c) { return c.weight < floor; });
  }
  const double target = uniform(options.seed, position) * sum_of_weights(candidates);
  double reached = 0;
  for (const Candidate& candidate : candidates) {
    reached += candidate.weight;
    if (reached > target) return candidate.id;
  }
  return candidates.back().id;  // target rounded up to the whole sum
}

/// log of the sum of exp(logit) over the finite logits.
double log_sum_exp(std::span<const float> logits) {
  const double greatest = greatest_finite(logits);
  return greatest + std::log(exp_sum(logits, greatest));
}

std::vector<Alternative> likeliest(std::span<const float> logits, std::size_t count,
                                   double normaliser) {
  std::vector<Candidate> top;
  count = std::min(count, logits.size());
  for (std::size_t i = 0; i < logits.size() && count > 0; ++i) {
    if (!std::isfinite(logits[i])) continue;
    if (top.size() == count && logits[i] <= top.back().score) continue;
    const Candidate candidate{0, logits[i], static_cast<TokenId>(i)};
    top.insert(std::upper_bound(top.begin(), top.end(), candidate, likelier), candidate);
    if (top.size() > count) top.pop_back();
  }
  std::vector<Alternative> alternatives;
  for (const Candidate& candidate : top) {
    alternatives.push_back({candidate.id, static_cast<float>(candidate.score - normaliser)});
  }
  return alternatives;
}

Error outside(std::string_view field, std::string_view range) {
  return {Errc::invalid_argument, std::string(field) + " must be " + std::string(range)};
}

bool within(float value, float low, float high) noexcept {
  return value >= low && value <= high;  // false for NaN
}

}  // namespace

Result<void> validate(const SamplingOptions& options, std::uint32_t vocab_size) {
  if (!within(options.temperature, 0, 100)) return outside("temperature", "from 0 to 100");
  if (!within(options.top_p, 0, 1)) return outside("top_p", "from 0 to 1");
  if (!within(options.min_p, 0, 1)) return outside("min_p", "from 0 to 1");
  if (!within(options.repetition_penalty, 0.01f, 100)) {
    return outside("repetition_penalty", "from 0.01 to 100");
  }
  if (!within(options.presence_penalty, -2, 2)) return outside("presence_penalty", "from -2 to 2");
  if (!within(options.frequency_penalty, -2, 2)) {
    return outside("frequency_penalty", "from -2 to 2");
  }
  if (options.logit_bias.size() > kMaxBiases) return outside("logit_bias", "at most 1024 entries");
  for (const LogitBias& bias : options.logit_bias) {
    if (bias.token >= vocab_size) return outside("logit_bias token", "inside the vocabulary");
    if (!within(bias.bias, -100, 100)) return outside("logit_bias", "from -100 to 100");
  }
  if (options.top_logprobs > kMaxTopLogprobs) return outside("top_logprobs", "at most 20");
  return {};
}

Result<Choice> sample(std::span<const float> logits, std::span<const TokenId> ids,
                      std::size_t output, std::uint64_t position, const SamplingOptions& options) {
  std::vector<float> changed;
  if (adjusts(options)) changed = adjusted(logits, ids, output, options);
  const std::span<const float> scores = changed.empty() ? logits : std::span<const float>(changed);

  const std::size_t best = argmax(scores);
  if (best == scores.size()) return Error{Errc::bad_payload, "no logit is finite"};
  Choice choice;
  choice.id =
      options.temperature == 0 ? static_cast<TokenId>(best) : draw(scores, best, position, options);
  const double normaliser = log_sum_exp(logits);
  choice.logprob = static_cast<float>(logits[choice.id] - normaliser);
  choice.top = likeliest(logits, options.top_logprobs, normaliser);
  return choice;
}

}  // namespace farmesh::sampling
