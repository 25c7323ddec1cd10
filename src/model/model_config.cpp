#include "model/model_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "model/json_fields.hpp"

namespace farmesh::model {
namespace {

using nlohmann::json;

// Far above any model published, low enough that no product of two of them overflows 64 bits.
constexpr std::uint32_t kMaxHidden = 1 << 18;
constexpr std::uint32_t kMaxIntermediate = 1 << 21;
constexpr std::uint32_t kMaxLayers = 1 << 12;
constexpr std::uint32_t kMaxHeads = 1 << 12;
constexpr std::uint32_t kMaxHeadDim = 1 << 10;
constexpr std::uint32_t kMaxVocab = 1 << 23;
constexpr std::uint32_t kMaxContext = 1 << 26;

/// What a family means when config.json is silent, and how it names things. These are the
/// defaults of Hugging Face's configuration classes, and the parts that are code there.
struct Family {
  std::string_view model_type;
  std::string_view architecture;
  std::uint32_t max_position;
  double norm_eps;
  bool tied_embeddings;
  std::uint32_t head_dim;  // 0: hidden_size / num_attention_heads
  std::uint32_t sliding_window;
  bool window_from_layer;  // windows are switched on by use_sliding_window, for upper layers only
  bool qkv_bias;           // always, whatever attention_bias says
  bool qk_norm;
};

constexpr std::array<Family, 5> kFamilies{{
    {"llama", "LlamaForCausalLM", 2048, 1e-6, false, 0, 0, false, false, false},
    {"mistral", "MistralForCausalLM", 131072, 1e-6, false, 0, 4096, false, false, false},
    {"qwen2", "Qwen2ForCausalLM", 32768, 1e-6, false, 0, 4096, true, true, false},
    {"qwen3", "Qwen3ForCausalLM", 32768, 1e-6, false, 128, 4096, true, false, true},
    {"starcoder2", "Starcoder2ForCausalLM", 4096, 1e-5, true, 0, 0, false, false, false},
}};

const Family* find_family(JsonFields& fields, ModelConfig& config) {
  const std::string model_type = fields.text("model_type", "");
  const json* names = fields.find("architectures");
  if (names != nullptr && names->is_array() && !names->empty() && names->front().is_string()) {
    config.architecture = names->front().get<std::string>();
  }
  for (const Family& family : kFamilies) {
    const bool named = model_type.empty() ? config.architecture == family.architecture
                                          : model_type == family.model_type;
    if (!named) continue;
    if (config.architecture.empty()) config.architecture = family.architecture;
    return &family;
  }
  const std::string& shown = model_type.empty() ? config.architecture : model_type;
  fields.fail("model_type '" + shown.substr(0, 64) +
                  "' is not supported; supported: llama, mistral, qwen2, qwen3, starcoder2",
              Errc::model_unsupported);
  return nullptr;
}

void read_sizes(JsonFields& fields, const Family& family, ModelConfig& c) {
  c.hidden_size = fields.required_count("hidden_size", 1, kMaxHidden);
  c.intermediate_size = fields.required_count("intermediate_size", 1, kMaxIntermediate);
  c.num_layers = fields.required_count("num_hidden_layers", 1, kMaxLayers);
  c.num_heads = fields.required_count("num_attention_heads", 1, kMaxHeads);
  c.num_kv_heads = fields.count("num_key_value_heads", c.num_heads, 1, kMaxHeads);
  c.vocab_size = fields.required_count("vocab_size", 1, kMaxVocab);
  c.max_position = fields.count("max_position_embeddings", family.max_position, 1, kMaxContext);
  const std::uint32_t head_dim =
      family.head_dim != 0 ? family.head_dim : c.hidden_size / c.num_heads;
  c.head_dim = fields.count("head_dim", head_dim, 2, kMaxHeadDim);
  if (fields.error()) return;
  if (c.num_heads % c.num_kv_heads != 0) {
    fields.fail("num_key_value_heads does not divide num_attention_heads");
  }
  const bool implied = family.head_dim == 0 && fields.find("head_dim") == nullptr;
  if (implied && c.hidden_size % c.num_heads != 0) {
    fields.fail("num_attention_heads does not divide hidden_size, and there is no head_dim");
  }
  if (c.head_dim < 2 || c.head_dim > kMaxHeadDim || c.head_dim % 2 != 0) {
    fields.fail("head_dim must be even, from 2 to " + std::to_string(kMaxHeadDim));
  }
}

void read_activation(JsonFields& fields, const char* fallback, ModelConfig& c) {
  const std::string name = fields.text("hidden_act", fallback);
  if (name == "silu" || name == "swish") {
    c.activation = Activation::silu;
  } else if (name == "gelu") {
    c.activation = Activation::gelu;
  } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    c.activation = Activation::gelu_tanh;
  } else if (name == "relu") {
    c.activation = Activation::relu;
  } else {
    fields.fail("hidden_act '" + name.substr(0, 64) + "' is not supported",
                Errc::model_unsupported);
  }
}

void read_arithmetic(JsonFields& fields, const Family& family, ModelConfig& c) {
  if (family.model_type == "starcoder2") {
    c.norm = NormKind::layer;
    c.norm_eps = fields.number("norm_epsilon", family.norm_eps, 0.0);
    c.gated_mlp = false;
    const bool bias = fields.flag("use_bias", true);
    c.qkv_bias = c.attention_out_bias = c.mlp_bias = bias;
    read_activation(fields, "gelu_pytorch_tanh", c);
  } else {
    c.norm_eps = fields.number("rms_norm_eps", family.norm_eps, 0.0);
    const bool bias = fields.flag("attention_bias", false);
    c.qkv_bias = family.qkv_bias || bias;
    // Qwen2 has biases on q, k and v in its code, and none on the output.
    c.attention_out_bias = !family.qkv_bias && bias;
    c.mlp_bias = fields.flag("mlp_bias", false);
    read_activation(fields, "silu", c);
  }
  c.qk_norm = family.qk_norm;
  c.tied_embeddings = fields.flag("tie_word_embeddings", family.tied_embeddings);
}

RopeScaling scaling_from_name(JsonFields& fields, const std::string& name) {
  if (name == "default") return RopeScaling::none;
  if (name == "linear") return RopeScaling::linear;
  if (name == "dynamic") return RopeScaling::dynamic;
  if (name == "llama3") return RopeScaling::llama3;
  if (name == "yarn") return RopeScaling::yarn;
  fields.fail("rope scaling '" + name.substr(0, 64) + "' is not supported",
              Errc::model_unsupported);
  return RopeScaling::none;
}

/// DeepSeek's way to write yarn's attention factor.
double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(JsonFields& scaling, RopeConfig& rope) {
  rope.beta_fast = scaling.number("beta_fast", rope.beta_fast, 0.0);
  rope.beta_slow = scaling.number("beta_slow", rope.beta_slow, 0.0);
  rope.attention_factor = scaling.number("attention_factor", 0.0, 0.0);
  const double mscale = scaling.number("mscale", 0.0, -1.0);
  const double mscale_all = scaling.number("mscale_all_dim", 0.0, -1.0);
  if (rope.attention_factor == 0.0 && mscale > 0.0 && mscale_all > 0.0) {
    rope.attention_factor = yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all);
  }
  if (!scaling.flag("truncate", true)) {
    scaling.fail("yarn with \"truncate\": false is not supported", Errc::model_unsupported);
  }
}

/// `rope_scaling` with "type" or "rope_type", or transformers 5's `rope_parameters`.
void read_rope_scaling(JsonFields& fields, const json& object, ModelConfig& c) {
  JsonFields scaling(object, "rope scaling");
  RopeConfig& rope = c.rope;
  rope.theta = scaling.number("rope_theta", rope.theta, 1.0);
  const std::string name = scaling.text("rope_type", scaling.text("type", "default"));
  rope.scaling = scaling_from_name(scaling, name);
  if (scaling.number("partial_rotary_factor", 1.0, 0.0) != 1.0) {
    scaling.fail("partial_rotary_factor is not supported", Errc::model_unsupported);
  }
  if (rope.scaling != RopeScaling::none) {
    rope.original_max_position = scaling.count(
        "original_max_position_embeddings",
        fields.count("original_max_position_embeddings", c.max_position, 1, kMaxContext), 1,
        kMaxContext);
    const bool has_factor = scaling.find("factor") != nullptr;
    rope.factor = scaling.number("factor", 1.0, 0.0);
    if (rope.scaling == RopeScaling::yarn && !has_factor) {
      rope.factor = static_cast<double>(c.max_position) / rope.original_max_position;
    } else if (!has_factor) {
      scaling.fail("factor is missing");
    }
  }
  if (rope.scaling == RopeScaling::llama3) {
    rope.low_freq_factor = scaling.number("low_freq_factor", rope.low_freq_factor, 0.0);
    rope.high_freq_factor = scaling.number("high_freq_factor", rope.high_freq_factor, 0.0);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      scaling.fail("high_freq_factor must be above low_freq_factor");
    }
  }
  if (rope.scaling == RopeScaling::yarn) read_yarn(scaling, rope);
  if (scaling.error()) fields.fail(scaling.error()->detail, scaling.error()->code);
}

/// Models stretched after training name the context they were trained for.
void stretch_context(ModelConfig& c) {
  const RopeConfig& rope = c.rope;
  if (rope.scaling == RopeScaling::none || rope.scaling == RopeScaling::llama3) return;
  const double stretched = rope.factor * rope.original_max_position;
  c.max_position =
      static_cast<std::uint32_t>(std::clamp<double>(stretched, c.max_position, kMaxContext));
}

void read_rope(JsonFields& fields, ModelConfig& c) {
  c.rope.theta = fields.number("rope_theta", 10000.0, 1.0);
  if (fields.number("partial_rotary_factor", 1.0, 0.0) != 1.0) {
    fields.fail("partial_rotary_factor is not supported", Errc::model_unsupported);
  }
  const json* scaling = fields.find("rope_parameters");
  if (scaling == nullptr) scaling = fields.find("rope_scaling");
  if (scaling == nullptr) return;
  if (!scaling->is_object()) {
    fields.fail("rope_scaling must be an object");
    return;
  }
  for (const auto& [key, value] : scaling->items()) {
    if (value.is_object()) {
      fields.fail("rope parameters by layer type are not supported", Errc::model_unsupported);
      return;
    }
  }
  read_rope_scaling(fields, *scaling, c);
  if (!fields.error()) stretch_context(c);
}

/// Windows by layer: from layer_types if listed, else by the family's rule.
void read_windows(JsonFields& fields, const Family& family, ModelConfig& c) {
  // Absent means the family's own, null means none.
  std::uint32_t window =
      fields.says_null("sliding_window")
          ? 0
          : fields.count("sliding_window", family.sliding_window, 0, kMaxContext);
  if (family.window_from_layer && !fields.flag("use_sliding_window", false)) window = 0;
  const json* types = fields.find("layer_types");
  if (types == nullptr) {
    if (window == 0) return;
    const std::uint32_t first =
        family.window_from_layer ? fields.count("max_window_layers", 28, 0, kMaxLayers) : 0;
    c.sliding_window.assign(c.num_layers, 0);
    for (std::uint32_t i = first; i < c.num_layers; ++i) c.sliding_window[i] = window;
    return;
  }
  if (!types->is_array() || types->size() != c.num_layers) {
    fields.fail("layer_types must name every layer");
    return;
  }
  c.sliding_window.assign(c.num_layers, 0);
  for (std::uint32_t i = 0; i < c.num_layers; ++i) {
    const json& type = (*types)[i];
    if (type == "sliding_attention") {
      if (window == 0) fields.fail("layer_types names sliding layers without a sliding_window");
      c.sliding_window[i] = window;
    } else if (type != "full_attention") {
      fields.fail("layer_types holds something else than full_attention and sliding_attention",
                  Errc::model_unsupported);
    }
  }
}

void read_dtype(JsonFields& fields, ModelConfig& c) {
  std::string name = fields.text("dtype", fields.text("torch_dtype", "float32"));
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "float32") {
    c.file_dtype = DType::f32;
  } else if (name == "bfloat16") {
    c.file_dtype = DType::bf16;
  } else if (name == "float16") {
    c.file_dtype = DType::f16;
  } else {
    fields.fail("torch_dtype '" + name.substr(0, 64) + "' is not supported",
                Errc::model_unsupported);
  }
}

/// One token id; conversions of early Llamas write -1 for none.
std::optional<TokenId> read_token(JsonFields& fields, const char* key, const json& value,
                                  const ModelConfig& c) {
  if (value.is_number_integer()) {
    if (value.is_number_unsigned() && value.get<std::uint64_t>() < c.vocab_size) {
      return value.get<TokenId>();
    }
    if (!value.is_number_unsigned() && value.get<std::int64_t>() < 0) return std::nullopt;
  }
  fields.fail(std::string(key) + " must be an id inside the vocabulary");
  return std::nullopt;
}

void read_tokens(JsonFields& fields, ModelConfig& c) {
  constexpr std::size_t kMaxEndTokens = 1024;
  if (const json* bos = fields.find("bos_token_id"); bos != nullptr && !bos->is_array()) {
    c.bos_token = read_token(fields, "bos_token_id", *bos, c);
  }
  const json* eos = fields.find("eos_token_id");
  if (eos == nullptr) return;
  if (!eos->is_array()) {
    if (const auto id = read_token(fields, "eos_token_id", *eos, c)) c.eos_tokens.push_back(*id);
    return;
  }
  if (eos->size() > kMaxEndTokens) {
    fields.fail("eos_token_id lists too many ids");
    return;
  }
  for (const json& value : *eos) {
    if (const auto id = read_token(fields, "eos_token_id", value, c)) c.eos_tokens.push_back(*id);
  }
}

void refuse_what_is_not_understood(JsonFields& fields) {
  if (const json* quantization = fields.find("quantization_config")) {
    std::string method = "unknown";
    if (quantization->is_object())
      method = JsonFields(*quantization, "").text("quant_method", method);
    fields.fail("weights quantised by '" + method.substr(0, 64) + "' are not supported",
                Errc::model_unsupported);
  }
  if (fields.flag("is_encoder_decoder", false)) {
    fields.fail("encoder-decoder models are not supported", Errc::model_unsupported);
  }
}

}  // namespace

Result<ModelConfig> parse_model_config(std::string_view text) {
  if (text.size() > kMaxConfigBytes) return {Errc::model_malformed, "config.json is too large"};
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return {Errc::model_malformed, "config.json is not a JSON object"};
  JsonFields fields(object, "config.json");
  ModelConfig config;
  const Family* family = find_family(fields, config);
  if (family == nullptr) return *fields.error();
  refuse_what_is_not_understood(fields);
  read_sizes(fields, *family, config);
  if (fields.error()) return *fields.error();
  read_arithmetic(fields, *family, config);
  read_rope(fields, config);
  read_windows(fields, *family, config);
  read_dtype(fields, config);
  read_tokens(fields, config);
  if (fields.error()) return *fields.error();
  return config;
}

}  // namespace farmesh::model
