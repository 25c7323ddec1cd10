// The engine against a second, plain implementation, on small random models of every family and
// option that config.json can describe.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "golden/plain_decoder.hpp"
#include "unit/model/engine_fixture.hpp"

namespace farmesh::golden {
namespace {

using model::EngineOptions;
using model::ModelConfig;
using model::test::Bytes;
using model::test::Chain;

struct Variant {
  const char* name;
  const char* json;  // fields that differ from kCommon
};

const std::string kCommon =
    R"("hidden_size": 40, "intermediate_size": 52, "num_hidden_layers": 3, "vocab_size": 77,
       "torch_dtype": "float32", "rms_norm_eps": 1e-5,)";

const std::vector<Variant> kVariants{
    {"llama", R"("model_type": "llama", "num_attention_heads": 4)"},
    {"grouped queries, tied, all biases",
     R"("model_type": "llama", "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 18,
        "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true)"},
    {"one kv head for many queries",
     R"("model_type": "llama", "num_attention_heads": 14, "num_key_value_heads": 1, "head_dim": 6)"},
    {"linear rope",
     R"("model_type": "llama", "num_attention_heads": 4, "max_position_embeddings": 16,
        "rope_scaling": {"type": "linear", "factor": 4.0})"},
    {"dynamic rope beyond the trained context",
     R"("model_type": "llama", "num_attention_heads": 4, "max_position_embeddings": 8,
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0})"},
    {"llama 3.1 rope",
     R"("model_type": "llama", "num_attention_heads": 2, "rope_theta": 5000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64})"},
    {"yarn",
     R"("model_type": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": 32,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32})"},
    {"yarn with its own attention factor, in transformers 5's words",
     R"("model_type": "qwen3", "num_attention_heads": 2, "head_dim": 16,
        "rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 20000.0,
                            "original_max_position_embeddings": 64, "attention_factor": 1.3,
                            "beta_fast": 16, "beta_slow": 2})"},
    {"mistral with a sliding window",
     R"("model_type": "mistral", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
        "sliding_window": 5)"},
    {"qwen2 with a window in the upper layers",
     R"("model_type": "qwen2", "num_attention_heads": 5, "num_key_value_heads": 5,
        "use_sliding_window": true, "sliding_window": 17, "max_window_layers": 1)"},
    {"qwen3 with windows by layer",
     R"("model_type": "qwen3", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 20,
        "use_sliding_window": true, "sliding_window": 3,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"])"},
    {"starcoder2: layer norms, plain MLP, biases, tied",
     R"("model_type": "starcoder2", "num_attention_heads": 4, "num_key_value_heads": 2,
        "norm_epsilon": 1e-5)"},
    {"gelu", R"("model_type": "llama", "num_attention_heads": 4, "hidden_act": "gelu")"},
    {"relu", R"("model_type": "starcoder2", "num_attention_heads": 4, "hidden_act": "relu",
               "use_bias": false, "tie_word_embeddings": false)"},
};

std::vector<TokenId> some_ids(std::size_t count) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<TokenId>((i * 31 + i * i) % 77);
  return ids;
}

/// The largest difference over all logits of all positions.
double furthest(Chain& chain, const std::vector<std::vector<double>>& expected,
                const std::vector<TokenId>& ids) {
  const Bytes hidden = chain.run({{ids, 0, model::test::pages_from(3, 4)}})[0];
  double worst = 0.0;
  for (std::size_t row = 0; row < ids.size(); ++row) {
    const auto from = hidden.begin() + static_cast<std::ptrdiff_t>(row * chain.row_bytes());
    const auto logits = chain.logits({from, from + static_cast<std::ptrdiff_t>(chain.row_bytes())});
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double difference = std::abs(logits[i] - expected[row][i]);
      worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    }
  }
  return worst;
}

EngineOptions options_of(Precision precision, Numerics numerics) {
  EngineOptions options;
  options.precision = precision;
  options.numerics = numerics;
  options.threads = 2;
  return options;
}

TEST_SUITE("golden/decoder") {
  TEST_CASE("every family and option agrees with a plain forward pass in double") {
    const std::vector<TokenId> ids = some_ids(45);
    for (const Variant& variant : kVariants) {
      CAPTURE(variant.name);
      const auto config = model::parse_model_config("{" + kCommon + variant.json + "}");
      const std::string problem = config ? "" : config.error().to_string();
      REQUIRE_MESSAGE(config, problem);
      const std::vector<Span> whole{{0, config->num_layers}};
      for (const DType file : {DType::f32, DType::bf16, DType::f16}) {
        const RandomWeights weights(*config, file, 7);
        const auto expected = plain_logits(*config, weights, Precision::f32, ids);
        Chain exact(*config, weights, whole, options_of(Precision::f32, Numerics::exact));
        CHECK(furthest(exact, expected, ids) < 2e-5);
        Chain fast(*config, weights, whole, options_of(Precision::f32, Numerics::fast));
        CHECK(furthest(fast, expected, ids) < 2e-5);
        Chain fused(*config, weights, whole, options_of(Precision::f32, Numerics::fused));
        CHECK(furthest(fused, expected, ids) < 2e-5);
      }
      const RandomWeights weights(*config, DType::f16, 8);
      const auto expected = plain_logits(*config, weights, Precision::bf16, ids);
      // The residual stream and the cache keep 8 bits: logits of size 1 to 3 move by this much.
      Chain exact(*config, weights, whole, options_of(Precision::bf16, Numerics::exact));
      CHECK(furthest(exact, expected, ids) < 0.12);
      Chain fast(*config, weights, whole, options_of(Precision::bf16, Numerics::fast));
      CHECK(furthest(fast, expected, ids) < 0.12);
      Chain int8(*config, weights, whole, options_of(Precision::int8, Numerics::exact));
      Chain int4(*config, weights, whole, options_of(Precision::int4, Numerics::exact));
      // Layers this small forgive little: the largest of 3,465 logits moves by so much.
      CHECK(furthest(int8, expected, ids) < 0.4);
      CHECK(furthest(int4, expected, ids) < 3.0);
      // What a GPU computes with keeps every activation in 8 bits, too.
      Chain fused(*config, weights, whole, options_of(Precision::bf16, Numerics::fused));
      CHECK(furthest(fused, expected, ids) < 0.12);
      Chain fused8(*config, weights, whole, options_of(Precision::int8, Numerics::fused));
      Chain fused4(*config, weights, whole, options_of(Precision::int4, Numerics::fused));
      CHECK(furthest(fused8, expected, ids) < 0.4);
      CHECK(furthest(fused4, expected, ids) < 3.0);
      EngineOptions narrow = options_of(Precision::bf16, Numerics::exact);
      narrow.kv = KvFormat::int8;
      Chain int8_kv(*config, weights, whole, narrow);
      CHECK(furthest(int8_kv, expected, ids) < 0.3);
    }
  }

  TEST_CASE("fused steps of sessions of several lengths are those of a plain forward pass") {
    // One session decodes from its first token, the other has a prompt; then the first alone.
    // Steps of one shape come again and again, so their layers are recorded ones.
    const std::vector<TokenId> ids = some_ids(45);
    const auto first = model::test::pages_from(0, 3), second = model::test::pages_from(7, 3);
    for (const Variant& variant : kVariants) {
      CAPTURE(variant.name);
      const auto config = model::parse_model_config("{" + kCommon + variant.json + "}");
      REQUIRE(config);
      const RandomWeights weights(*config, DType::f32, 11);
      const auto expected = plain_logits(*config, weights, Precision::f32, ids);
      Chain chain(*config, weights, {{0, 2}, {2, 3}}, options_of(Precision::f32, Numerics::fused));
      const auto check = [&](const Bytes& hidden, std::size_t position) {
        const auto logits = chain.logits(hidden);
        double worst = 0.0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
          worst = std::max(worst, std::abs(logits[i] - expected[position][i]));
        }
        CHECK(worst < 2e-5);
      };
      constexpr std::uint32_t kPrompt = 19;
      check(chain.run({{{ids.begin(), ids.begin() + 7}, 0, second}})[0], 6);
      const auto rest =
          chain.run({{{ids[0]}, 0, first}, {{ids.begin() + 7, ids.begin() + kPrompt}, 7, second}});
      check(rest[0], 0);
      check(rest[1], kPrompt - 1);
      for (std::uint32_t i = 1; i < ids.size(); ++i) {
        const std::uint32_t ahead = i + kPrompt - 1;
        if (ahead >= ids.size()) {
          check(chain.run({{{ids[i]}, i, first}})[0], i);
          continue;
        }
        const auto both = chain.run({{{ids[i]}, i, first}, {{ids[ahead]}, ahead, second}});
        check(both[0], i);
        check(both[1], ahead);
      }
    }
  }

  TEST_CASE("every family and option computes the same bits one row at a time") {
    const std::vector<TokenId> ids = some_ids(40);
    const auto pages = model::test::pages_from(0, 3);
    for (const Variant& variant : kVariants) {
      CAPTURE(variant.name);
      const auto config = model::parse_model_config("{" + kCommon + variant.json + "}");
      REQUIRE(config);
      const RandomWeights weights(*config, DType::bf16, 9);
      for (int kind = 0; kind < 4; ++kind) {
        constexpr Precision kKinds[] = {Precision::bf16, Precision::int8, Precision::int4,
                                        Precision::bf16};
        EngineOptions options = options_of(kKinds[kind], Numerics::exact);
        if (kind == 3) options.kv = KvFormat::int8;
        Chain chain(*config, weights, {{0, 1}, {1, config->num_layers}}, options);
        const Bytes together = chain.run({{ids, 0, pages}})[0];
        Bytes alone;
        for (std::uint32_t i = 0; i < ids.size(); ++i) {
          const Bytes row = chain.run({{{ids[i]}, i, pages}})[0];
          alone.insert(alone.end(), row.begin(), row.end());
        }
        CHECK(alone == together);
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::golden
