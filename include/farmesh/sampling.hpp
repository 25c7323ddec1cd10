// How the next token is chosen from the model's logits.
#pragma once

#include <cstdint>
#include <vector>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

struct LogitBias {
  std::uint32_t token = 0;
  float bias = 0;  // added to the logit; -100 practically forbids
};

/// Applied in this order: logit bias, repetition penalty, presence and frequency penalties,
/// temperature, top-k, top-p, min-p. Randomness is a function of (seed, absolute position), so
/// that any host can take a session over and go on with the same tokens.
struct SamplingOptions {
  float temperature = 0.7f;      // 0: greedy, the smallest id among equal logits
  std::uint32_t top_k = 0;       // 0: off
  float top_p = 0.9f;            // 1: off
  float min_p = 0;               // 0: off; relative to the most likely token
  float repetition_penalty = 1;  // over prompt and output (Keskar et al. 2019)
  float presence_penalty = 0;    // over the output, as OpenAI defines it
  float frequency_penalty = 0;   // over the output, as OpenAI defines it
  std::vector<LogitBias> logit_bias;
  std::uint64_t seed = 0;
  std::uint32_t top_logprobs = 0;  // alternatives reported with each token, at most 20
};

}  // namespace farmesh::inline FARMESH_ABI
