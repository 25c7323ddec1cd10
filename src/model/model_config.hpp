// The hyper-parameters of a decoder, read from config.json and nothing else.
//
// A model is described, never named: the block in torch/ reads these fields and has no branch
// on "llama" or "qwen". To add an architecture, map its config.json onto these fields in
// model_config.cpp and, only if it needs arithmetic that no field describes, add a field here
// and its one use in torch/block.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::model {

enum class NormKind : std::uint8_t { rms, layer };
enum class Activation : std::uint8_t { silu, gelu, gelu_tanh, relu };
enum class RopeScaling : std::uint8_t { none, linear, dynamic, llama3, yarn };

/// Rotary position embedding (Su et al. 2021), half-split pairs as in Hugging Face's Llama.
struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;
  std::uint32_t original_max_position = 0;  // context before scaling; 0: max_position
  double low_freq_factor = 1.0;             // llama3
  double high_freq_factor = 4.0;            // llama3
  double beta_fast = 32.0;                  // yarn
  double beta_slow = 1.0;                   // yarn
  double attention_factor = 0.0;            // yarn; 0: 0.1 ln(factor) + 1
};

struct ModelConfig {
  std::string architecture;  // as config.json says, for people; no code branches on it
  std::uint32_t hidden_size = 0;
  std::uint32_t intermediate_size = 0;
  std::uint32_t num_layers = 0;
  std::uint32_t num_heads = 0;
  std::uint32_t num_kv_heads = 0;
  std::uint32_t head_dim = 0;  // explicit, never assumed hidden_size / num_heads
  std::uint32_t vocab_size = 0;
  std::uint32_t max_position = 0;  // context length in tokens

  NormKind norm = NormKind::rms;
  double norm_eps = 1e-5;
  Activation activation = Activation::silu;
  bool gated_mlp = true;  // down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // norm over head_dim on q and k before RoPE (Qwen3)
  bool tied_embeddings = false;
  RopeConfig rope;

  /// Window in tokens for each layer, 0 meaning the whole context; empty: 0 for every layer.
  std::vector<std::uint32_t> sliding_window;

  DType file_dtype = DType::bf16;  // torch_dtype in config.json
  std::optional<TokenId> bos_token;
  std::vector<TokenId> eos_tokens;

  std::uint32_t q_size() const noexcept { return num_heads * head_dim; }
  std::uint32_t kv_size() const noexcept { return num_kv_heads * head_dim; }
  std::uint32_t window_of(std::uint32_t layer) const noexcept {
    return layer < sliding_window.size() ? sliding_window[layer] : 0;
  }
};

/// Largest accepted config.json; real ones are under 10 KB.
inline constexpr std::size_t kMaxConfigBytes = 1 << 20;

/// Parses the text of a config.json. Fails with model_malformed (not JSON, a field of the
/// wrong type or out of range, sizes that contradict each other) or model_unsupported (an
/// architecture or option outside the fields above, named in the detail).
Result<ModelConfig> parse_model_config(std::string_view json);

/// One tensor a decoder needs, with its Hugging Face name.
struct TensorSpec {
  std::string name;                  // "model.layers.3.self_attn.q_proj.weight"
  std::vector<std::uint64_t> shape;  // [out, in] for products, [n] for vectors
};

/// The tensors of layers [span) and, with `head`, of embedding, final norm and LM head.
/// With tied embeddings there is no lm_head entry.
std::vector<TensorSpec> required_tensors(const ModelConfig& config, Span span, bool head);

}  // namespace farmesh::model
