// Training: takes a corpus of token ids, leaves config.json, model.safetensors and the
// tokenizer's settings in a model folder.
//
// Torch-free face of the two files that include torch (decoder.cpp, trainer.cpp).
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <farmesh/result.hpp>

#include "train/token_file.hpp"

namespace farmesh::train {

struct TrainOptions {
  std::filesystem::path out;         // an existing folder
  std::filesystem::path checkpoint;  // resumed from if it exists, rewritten every few minutes
  std::uint64_t seed = 1;
  std::int64_t steps = 3400;
  double minutes = 0;  // ends sooner, the schedule with it; 0: never
  int threads = 1;
  int vocabulary = 2048;
  std::int64_t tokens_per_step = 2048;
  double learning_rate = 3e-3;  // at its peak
};

/// Trains and writes config.json, generation_config.json, tokenizer_config.json and
/// model.safetensors (bf16). Prints the loss. Fails with io_error or compute_failed.
Result<void> train_model(Corpus corpus, const TrainOptions& options);

struct SampleOptions {
  double temperature = 0.0;  // 0: greedy
  std::uint64_t seed = 1;
  int max_tokens = 256;
};

/// The ids that follow `prompt`, without EOS, by the weights written in `folder`, computed in
/// f32. For reading what was learned; src/model serves the model. Fails with model_malformed.
Result<std::vector<int>> continue_prompt(const std::filesystem::path& folder,
                                         std::vector<int> prompt, const SampleOptions& options);

}  // namespace farmesh::train
