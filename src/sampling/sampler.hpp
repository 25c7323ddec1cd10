// Picks a token from logits. Pure functions: same inputs, same token, on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>

#include "base/types.hpp"

namespace farmesh::sampling {

struct Alternative {
  TokenId id = 0;
  float logprob = 0;
};

struct Choice {
  TokenId id = 0;
  float logprob = 0;             // natural logarithm, of the unmodified distribution
  std::vector<Alternative> top;  // options.top_logprobs most likely, likeliest first
};

/// Fails with invalid_argument, naming the field outside its range.
Result<void> validate(const SamplingOptions& options, std::uint32_t vocab_size);

/// `ids` are the session's tokens so far; the last `output` of them were generated (penalties).
/// `position` is the absolute position of the token being chosen; with options.seed it fixes
/// the randomness (a counter-based generator: Salmon et al. 2011, Philox 4x32-10).
/// Fails with bad_payload when no logit is finite.
Result<Choice> sample(std::span<const float> logits, std::span<const TokenId> ids,
                      std::size_t output, std::uint64_t position, const SamplingOptions& options);

/// Uniform in [0, 1) with 53 bits: the randomness behind `sample`.
double uniform(std::uint64_t seed, std::uint64_t position) noexcept;

}  // namespace farmesh::sampling
