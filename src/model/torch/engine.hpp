// StageEngine with libtorch: owns the weights of its span, the KV pages, the scratch memory.
#pragma once

#include <memory>
#include <vector>

#include "model/stage_engine.hpp"
#include "model/torch/block.hpp"

namespace farmesh::model {

class Engine final : public StageEngine {
 public:
  /// Throws LoadFailure, std::bad_alloc or c10::Error.
  Engine(const ModelConfig& config, const WeightSource& source, const EngineOptions& options,
         std::unique_ptr<Ops> ops, std::string numerics_class);

  const EngineInfo& info() const noexcept override { return info_; }
  Result<void> reserve_pages(std::uint32_t count) override;
  Result<void> forward(Span blocks, std::span<const SequenceRows> batch) override;
  Result<void> copy_page(std::uint32_t from, std::uint32_t to) override;
  Result<void> embed(std::span<const TokenId> ids, MutableByteView hidden) override;
  Result<void> logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) override;

 private:
  struct Head {
    std::shared_ptr<const Matrix> embedding;
    Norm norm;
    std::shared_ptr<const Matrix> lm_head;  // the embedding itself when tied
  };

  std::uint64_t row_bytes() const noexcept;
  Result<void> check(Span blocks, const SequenceRows& sequence) const;
  void run_slice(Span blocks, const Batch& batch, std::span<const MutableByteView> outputs,
                 std::span<const ByteView> inputs);
  Workspace workspace(std::int64_t rows);

  const ModelConfig config_;
  EngineInfo info_;
  std::unique_ptr<Ops> ops_;
  std::vector<Block> blocks_;       // of info_.blocks
  std::vector<LayerCache> caches_;  // one a block, once pages are reserved
  std::uint32_t pages_ = 0;
  Head head_;
  Workspace workspace_;
  std::int64_t workspace_rows_ = 0;
};

}  // namespace farmesh::model
