// One decoder layer: attention and MLP, each behind a norm, added to the residual stream.
//
// Described by ModelConfig's fields; there is no branch on a model's name. New arithmetic is a
// field there, a function of Ops, and its one use in block.cpp.
#pragma once

#include <cstdint>
#include <memory>

#include "model/torch/ops.hpp"
#include "model/torch/weight_loader.hpp"

namespace farmesh::model {

/// Scratch activations of one pass, [rows, ...]; grown to the largest pass so far.
struct Workspace {
  at::Tensor hidden;    // [rows, hidden]: the residual stream
  at::Tensor normed;    // [rows, hidden]
  at::Tensor qkv;       // [rows, q + 2 kv]
  at::Tensor attended;  // [rows, q]
  at::Tensor wide;      // [rows, gate + up] or [rows, up]
  at::Tensor delta;     // [rows, hidden]

  static Workspace make(Ops& ops, const ModelConfig& config, std::int64_t rows);
  /// Views of the first `rows` rows.
  Workspace first(std::int64_t rows) const;
};

/// Immutable after construction.
class Block {
 public:
  Block(const ModelConfig& config, std::uint32_t layer, WeightLoader& weights);

  /// Replaces at.hidden by the layer's output, rounded to the residual dtype.
  void forward(Ops& ops, const Batch& batch, const LayerCache& cache, const Workspace& at) const;

 private:
  Activation activation_;
  bool gated_;
  std::uint32_t window_;
  Norm attention_norm_, q_norm_, k_norm_, mlp_norm_;
  std::shared_ptr<const Matrix> qkv_, out_, up_, down_;   // up_: gate stacked on up when gated
  at::Tensor qkv_bias_, out_bias_, up_bias_, down_bias_;  // undefined: none
};

}  // namespace farmesh::model
