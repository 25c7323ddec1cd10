// A load to put on an engine, for benchmarks: equal sessions at one position, and what a step of
// theirs must at least read and compute.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <farmesh/result.hpp>

#include "model/model_config.hpp"
#include "model/stage_engine.hpp"

namespace farmesh::model {

struct LoadShape {
  std::uint32_t sessions = 1;
  std::uint32_t rows_each = 1;  // tokens of each session in a step
  std::uint32_t context = 0;    // tokens in each session's cache before them

  std::uint32_t pages_each(std::uint32_t page_tokens) const noexcept {
    return (context + rows_each + page_tokens - 1) / page_tokens;
  }
};

/// Bytes of weights and cache that one step reads.
double step_bytes(const EngineInfo& info, const LoadShape& shape);
/// Multiplications and additions of one step of a whole model with logits of each session's last
/// row, each counted.
double step_operations(const ModelConfig& config, const LoadShape& shape);

/// Runs the same step of a whole engine again and again. The engine has the pages for it.
class EngineLoad {
 public:
  EngineLoad(StageEngine& engine, const ModelConfig& config, const LoadShape& shape);

  /// One pass with logits of each session's last row: seconds. Fails with compute_failed.
  Result<double> run();

 private:
  Result<void> fill_cache();
  Result<void> step();

  StageEngine& engine_;
  std::uint32_t sessions_;
  std::vector<TokenId> ids_;
  std::vector<std::byte> in_, out_, last_;
  std::vector<float> logits_;
  std::vector<std::uint32_t> pages_;
  std::vector<SequenceRows> batch_;
  bool filled_ = false;
};

}  // namespace farmesh::model
