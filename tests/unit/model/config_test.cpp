#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "model/model_config.hpp"

namespace farmesh::model {
namespace {

const std::string kSizes =
    R"("hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 4,
       "num_attention_heads": 8, "vocab_size": 512)";

Result<ModelConfig> parse(const std::string& fields) {
  return parse_model_config("{" + fields + "}");
}

ModelConfig parsed(const std::string& fields) {
  Result<ModelConfig> config = parse(fields + ", " + kSizes);
  const std::string problem = config ? "" : config.error().to_string();
  REQUIRE_MESSAGE(config, problem);
  return *config;
}

Error refused(const std::string& fields) {
  const Result<ModelConfig> config = parse(fields);
  REQUIRE_MESSAGE(!config, fields);
  return config.error();
}

TEST_SUITE("model/config") {
  TEST_CASE("a silent llama config means what Hugging Face's class means") {
    const ModelConfig c = parsed(R"("model_type": "llama")");
    CHECK(c.architecture == "LlamaForCausalLM");
    CHECK(c.num_kv_heads == 8);
    CHECK(c.head_dim == 8);
    CHECK(c.max_position == 2048);
    CHECK(c.norm == NormKind::rms);
    CHECK(c.norm_eps == 1e-6);
    CHECK(c.activation == Activation::silu);
    CHECK(c.gated_mlp);
    CHECK_FALSE((c.qkv_bias || c.attention_out_bias || c.mlp_bias || c.qk_norm));
    CHECK_FALSE(c.tied_embeddings);
    CHECK(c.rope.theta == 10000.0);
    CHECK(c.rope.scaling == RopeScaling::none);
    CHECK(c.sliding_window.empty());
    CHECK(c.file_dtype == DType::f32);
    CHECK_FALSE(c.bos_token);
    CHECK(c.eos_tokens.empty());
  }

  TEST_CASE("an early config without model_type is known by its architecture") {
    CHECK(parsed(R"("architectures": ["MistralForCausalLM"], "sliding_window": 9)").window_of(0) ==
          9);
  }

  TEST_CASE("tokens: one id, a list, null, or -1 for none") {
    CHECK(parsed(R"("model_type": "llama", "bos_token_id": 1, "eos_token_id": 2)").eos_tokens ==
          std::vector<TokenId>{2});
    CHECK(parsed(R"("model_type": "llama", "eos_token_id": [5, 511])").eos_tokens ==
          std::vector<TokenId>{5, 511});
    const ModelConfig none =
        parsed(R"("model_type": "llama", "bos_token_id": -1, "eos_token_id": null)");
    CHECK_FALSE(none.bos_token);
    CHECK(none.eos_tokens.empty());
  }

  TEST_CASE("biases follow the family") {
    const ModelConfig llama =
        parsed(R"("model_type": "llama", "attention_bias": true, "mlp_bias": true)");
    CHECK((llama.qkv_bias && llama.attention_out_bias && llama.mlp_bias));
    const ModelConfig qwen2 = parsed(R"("model_type": "qwen2")");
    CHECK((qwen2.qkv_bias && !qwen2.attention_out_bias && !qwen2.mlp_bias));
    const ModelConfig qwen3 = parsed(R"("model_type": "qwen3")");
    CHECK((qwen3.qk_norm && !qwen3.qkv_bias));
    CHECK(qwen3.head_dim == 128);
    const ModelConfig coder = parsed(R"("model_type": "starcoder2")");
    CHECK((coder.qkv_bias && coder.attention_out_bias && coder.mlp_bias && !coder.gated_mlp));
    CHECK(coder.norm == NormKind::layer);
    CHECK(coder.activation == Activation::gelu_tanh);
    CHECK(coder.tied_embeddings);
  }

  TEST_CASE("windows: absent is the family's own, null is none, Qwen's are for upper layers") {
    CHECK(parsed(R"("model_type": "mistral")").window_of(3) == 4096);
    CHECK(parsed(R"("model_type": "mistral", "sliding_window": null)").sliding_window.empty());
    CHECK(parsed(R"("model_type": "qwen2", "sliding_window": 100)").sliding_window.empty());
    const ModelConfig qwen = parsed(
        R"("model_type": "qwen2", "use_sliding_window": true, "sliding_window": 100, "max_window_layers": 2)");
    CHECK(qwen.sliding_window == std::vector<std::uint32_t>{0, 0, 100, 100});
    const ModelConfig typed = parsed(
        R"("model_type": "qwen3", "use_sliding_window": true, "sliding_window": 7, "layer_types":
           ["sliding_attention", "full_attention", "full_attention", "sliding_attention"])");
    CHECK(typed.sliding_window == std::vector<std::uint32_t>{7, 0, 0, 7});
  }

  TEST_CASE("rope scaling: old and new words, and the context it stretches to") {
    const ModelConfig linear = parsed(
        R"("model_type": "llama", "max_position_embeddings": 4096,
           "rope_scaling": {"type": "linear", "factor": 4.0})");
    CHECK(linear.rope.scaling == RopeScaling::linear);
    CHECK(linear.max_position == 16384);
    const ModelConfig llama3 = parsed(
        R"("model_type": "llama", "max_position_embeddings": 131072, "rope_theta": 500000.0,
           "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
    CHECK(llama3.rope.scaling == RopeScaling::llama3);
    CHECK(llama3.rope.original_max_position == 8192);
    CHECK(llama3.max_position == 131072);
    const ModelConfig yarn = parsed(
        R"("model_type": "qwen3", "max_position_embeddings": 40960, "rope_scaling":
           {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})");
    CHECK(yarn.rope.scaling == RopeScaling::yarn);
    CHECK(yarn.max_position == 131072);
    const ModelConfig newest = parsed(
        R"("model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6})");
    CHECK(newest.rope.theta == 1e6);
    CHECK(newest.rope.scaling == RopeScaling::none);
    const ModelConfig mscale = parsed(
        R"("model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 40.0, "mscale": 1.0,
           "mscale_all_dim": 0.8, "original_max_position_embeddings": 4096})");
    CHECK(mscale.rope.attention_factor == doctest::Approx(1.36888794 / 1.29511035));
  }

  TEST_CASE("what FarMesh cannot compute faithfully is refused by name") {
    const auto unsupported = [](const std::string& fields, const char* named) {
      const Error error = refused(fields + ", " + kSizes);
      CHECK_MESSAGE(error.code == Errc::model_unsupported, error.to_string());
      CHECK_MESSAGE(error.detail.find(named) != std::string::npos, error.to_string());
    };
    unsupported(R"("model_type": "gemma3_text")", "gemma3_text");
    unsupported(R"("architectures": ["FalconForCausalLM"])", "FalconForCausalLM");
    unsupported(R"("rope_theta": 1e4)", "model_type ''");
    unsupported(R"("model_type": "llama", "hidden_act": "quick_gelu")", "quick_gelu");
    unsupported(R"("model_type": "llama", "rope_scaling": {"rope_type": "longrope"})", "longrope");
    unsupported(R"("model_type": "llama", "partial_rotary_factor": 0.5)", "partial_rotary_factor");
    unsupported(R"("model_type": "llama", "rope_parameters": {"full_attention": {}})",
                "layer type");
    unsupported(R"("model_type": "llama", "torch_dtype": "float8_e4m3fn")", "float8");
    unsupported(R"("model_type": "llama", "quantization_config": {"quant_method": "awq"})", "awq");
    unsupported(R"("model_type": "qwen3", "layer_types": ["linear_attention", "full_attention",
                   "full_attention", "full_attention"])",
                "layer_types");
    unsupported(
        R"("model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 2, "truncate": false})",
        "truncate");
  }

  TEST_CASE("a config that is damaged or contradicts itself is malformed") {
    const auto malformed = [](const std::string& fields) {
      const Error error = refused(fields);
      CHECK_MESSAGE(error.code == Errc::model_malformed, fields << ": " << error.to_string());
    };
    const std::string llama = R"("model_type": "llama", )";
    malformed(R"("model_type": "llama")");  // sizes are missing
    malformed(llama + R"("hidden_size": 64.5, )" + kSizes.substr(kSizes.find(',') + 1));
    malformed(llama + R"("hidden_size": "64", )" + kSizes.substr(kSizes.find(',') + 1));
    malformed(llama + R"("hidden_size": -64, )" + kSizes.substr(kSizes.find(',') + 1));
    malformed(llama + R"("hidden_size": 66, )" + kSizes.substr(kSizes.find(',') + 1));
    malformed(llama + R"("hidden_size": 1000000000000, )" + kSizes.substr(kSizes.find(',') + 1));
    malformed(llama + R"("num_key_value_heads": 3, )" + kSizes);
    malformed(llama + R"("num_key_value_heads": 0, )" + kSizes);
    malformed(llama + R"("head_dim": 7, )" + kSizes);
    malformed(llama + R"("max_position_embeddings": 0, )" + kSizes);
    malformed(llama + R"("rms_norm_eps": 0, )" + kSizes);
    malformed(llama + R"("rms_norm_eps": "tiny", )" + kSizes);
    malformed(llama + R"("rope_theta": -1, )" + kSizes);
    malformed(llama + R"("rope_scaling": 2, )" + kSizes);
    malformed(llama + R"("rope_scaling": {"type": "linear"}, )" + kSizes);
    malformed(llama + R"("rope_scaling": {"type": "linear", "factor": 0}, )" + kSizes);
    malformed(llama + R"("rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4}, )" +
              kSizes);
    malformed(llama + R"("attention_bias": 1, )" + kSizes);
    malformed(llama + R"("eos_token_id": 512, )" + kSizes);
    malformed(llama + R"("eos_token_id": [1, "two"], )" + kSizes);
    malformed(llama + R"("layer_types": ["full_attention"], )" + kSizes);
    malformed(R"("model_type": "qwen3", "layer_types": ["sliding_attention", "full_attention",
                 "full_attention", "full_attention"], )" +
              kSizes);
    CHECK(parse_model_config("").error().code == Errc::model_malformed);
    CHECK(parse_model_config("[1, 2]").error().code == Errc::model_malformed);
    CHECK(parse_model_config("{\"model_type\": \"llama\"").error().code == Errc::model_malformed);
    CHECK(parse_model_config(std::string(1 << 19, '[')).error().code == Errc::model_malformed);
    CHECK(parse_model_config(std::string(kMaxConfigBytes + 1, ' ')).error().code ==
          Errc::model_malformed);
  }

  TEST_CASE("required tensors name what the span and head need, and nothing else") {
    const ModelConfig c = parsed(R"("model_type": "qwen3", "head_dim": 16)");
    const auto layer = required_tensors(c, {2, 3}, false);
    CHECK(layer.size() == 11);
    CHECK(layer[1].name == "model.layers.2.self_attn.q_proj.weight");
    CHECK(layer[1].shape == std::vector<std::uint64_t>{128, 64});
    CHECK(required_tensors(c, {}, true).size() == 3);
    CHECK(
        required_tensors(parsed(R"("model_type": "llama", "tie_word_embeddings": true)"), {}, true)
            .size() == 2);
    CHECK(required_tensors(c, {0, 4}, true).size() == 47);
  }
}

}  // namespace
}  // namespace farmesh::model
