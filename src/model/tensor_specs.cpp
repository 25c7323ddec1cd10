// Names and shapes of a decoder's tensors, as Hugging Face has them. Apart from
// model_config.cpp because libfarmesh_torch needs it and has no JSON library.
#include <string>

#include "model/model_config.hpp"

namespace farmesh::model {
namespace {

class SpecList {
 public:
  explicit SpecList(const ModelConfig& config) : config_(config) {}

  void matrix(const std::string& name, std::uint64_t out, std::uint64_t in, bool bias = false) {
    specs_.push_back({name + ".weight", {out, in}});
    if (bias) specs_.push_back({name + ".bias", {out}});
  }
  void norm(const std::string& name, std::uint64_t size) {
    specs_.push_back({name + ".weight", {size}});
    if (config_.norm == NormKind::layer) specs_.push_back({name + ".bias", {size}});
  }

  void layer(std::uint32_t index) {
    const ModelConfig& c = config_;
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    const std::string attention = prefix + "self_attn.";
    norm(prefix + "input_layernorm", c.hidden_size);
    matrix(attention + "q_proj", c.q_size(), c.hidden_size, c.qkv_bias);
    matrix(attention + "k_proj", c.kv_size(), c.hidden_size, c.qkv_bias);
    matrix(attention + "v_proj", c.kv_size(), c.hidden_size, c.qkv_bias);
    if (c.qk_norm) {
      specs_.push_back({attention + "q_norm.weight", {c.head_dim}});
      specs_.push_back({attention + "k_norm.weight", {c.head_dim}});
    }
    matrix(attention + "o_proj", c.hidden_size, c.q_size(), c.attention_out_bias);
    norm(prefix + "post_attention_layernorm", c.hidden_size);
    if (c.gated_mlp) {
      matrix(prefix + "mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
      matrix(prefix + "mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
      matrix(prefix + "mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
    } else {  // named as StarCoder2 names them
      matrix(prefix + "mlp.c_fc", c.intermediate_size, c.hidden_size, c.mlp_bias);
      matrix(prefix + "mlp.c_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
    }
  }

  void head() {
    matrix("model.embed_tokens", config_.vocab_size, config_.hidden_size);
    norm("model.norm", config_.hidden_size);
    if (!config_.tied_embeddings) matrix("lm_head", config_.vocab_size, config_.hidden_size);
  }

  std::vector<TensorSpec> take() { return std::move(specs_); }

 private:
  const ModelConfig& config_;
  std::vector<TensorSpec> specs_;
};

}  // namespace

std::vector<TensorSpec> required_tensors(const ModelConfig& config, Span span, bool head) {
  SpecList list(config);
  if (head) list.head();
  for (std::uint32_t layer = span.begin; layer < span.end; ++layer) list.layer(layer);
  return list.take();
}

}  // namespace farmesh::model
