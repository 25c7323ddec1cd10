#include "model/torch/block.hpp"

#include <string>

namespace farmesh::model {

Workspace Workspace::make(Ops& ops, const ModelConfig& config, std::int64_t rows) {
  Workspace w;
  w.hidden = ops.residual_stream(rows, config.hidden_size);
  w.normed = ops.activations(rows, config.hidden_size);
  w.qkv = ops.activations(rows, config.q_size() + 2 * config.kv_size());
  w.attended = ops.activations(rows, config.q_size());
  w.wide = ops.activations(rows, (config.gated_mlp ? 2 : 1) * config.intermediate_size);
  w.delta = ops.activations(rows, config.hidden_size);
  return w;
}

Workspace Workspace::first(std::int64_t rows) const {
  const auto cut = [rows](const at::Tensor& x) { return x.narrow(0, 0, rows); };
  return {cut(hidden), cut(normed), cut(qkv), cut(attended), cut(wide), cut(delta)};
}

Block::Block(const ModelConfig& config, std::uint32_t layer, WeightLoader& weights)
    : activation_(config.activation), gated_(config.gated_mlp), window_(config.window_of(layer)) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  attention_norm_ = weights.norm(prefix + "input_layernorm");
  const std::string q = attention + "q_proj";
  const std::string k = attention + "k_proj";
  const std::string v = attention + "v_proj";
  qkv_ = weights.matrix({q, k, v});
  if (config.qkv_bias) qkv_bias_ = weights.bias({q, k, v});
  if (config.qk_norm) {
    q_norm_ = weights.head_norm(attention + "q_norm");
    k_norm_ = weights.head_norm(attention + "k_norm");
  }
  out_ = weights.matrix({attention + "o_proj"});
  if (config.attention_out_bias) out_bias_ = weights.bias({attention + "o_proj"});
  mlp_norm_ = weights.norm(prefix + "post_attention_layernorm");
  const auto up =
      gated_ ? std::vector{mlp + "gate_proj", mlp + "up_proj"} : std::vector{mlp + "c_fc"};
  const std::string down = mlp + (gated_ ? "down_proj" : "c_proj");
  up_ = weights.matrix(up);
  down_ = weights.matrix({down});
  if (config.mlp_bias) {
    up_bias_ = weights.bias(up);
    down_bias_ = weights.bias({down});
  }
}

void Block::forward(Ops& ops, const Batch& batch, const LayerCache& cache,
                    const Workspace& at) const {
  ops.norm_linear(at.hidden, attention_norm_, *qkv_, qkv_bias_, at.normed, at.qkv);
  ops.rotate_and_store(at.qkv, q_norm_, k_norm_, batch, cache);
  ops.attend(at.qkv, batch, cache, window_, at.attended);
  ops.linear(at.attended, *out_, out_bias_, at.delta);
  ops.add(at.hidden, at.delta);

  ops.norm_linear(at.hidden, mlp_norm_, *up_, up_bias_, at.normed, at.wide);
  ops.activate_linear(at.wide, activation_, gated_, *down_, down_bias_, at.delta);
  ops.add_rounded(at.hidden, at.delta);
}

}  // namespace farmesh::model
