// Writes a model folder with random weights of a known shape, for benchmarks and tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::model {

struct SynthOptions {
  std::string shape = "tiny";                 // one of synthetic_shapes()
  DType dtype = DType::bf16;                  // f32, bf16 or f16
  std::uint64_t seed = 1;                     // equal options give equal bytes
  std::uint64_t shard_bytes = 4'000'000'000;  // a larger model is cut into files of about this size
  /// Called now and then with (bytes written, bytes in all); may be empty.
  std::function<void(std::uint64_t, std::uint64_t)> on_progress;
};

/// "tiny" (2 layers, hidden 32), "deep" (32 layers of that size), "160m", "1.1b" and "7b"
/// (Llama-2-7B's shape).
std::vector<std::string> synthetic_shapes();

/// Writes config.json, safetensors and a byte-level tokenizer.json into `folder`, which is made.
/// Weights are spread as a fresh initialisation spreads them, so logits are of ordinary size.
/// Memory does not grow with the model. Fails with invalid_argument (unknown shape or dtype) and
/// io_error; config.json is written last, so what a failure leaves behind does not open.
Result<void> write_synthetic_model(const std::filesystem::path& folder,
                                   const SynthOptions& options);

}  // namespace farmesh::model
