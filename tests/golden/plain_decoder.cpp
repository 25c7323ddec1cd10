#include "golden/plain_decoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/float_formats.hpp"

namespace farmesh::golden {
namespace {

using model::Activation;
using model::ModelConfig;
using model::NormKind;
using model::RopeScaling;
using Row = std::vector<double>;

constexpr double kPi = 3.14159265358979323846;

class PlainDecoder {
 public:
  PlainDecoder(const ModelConfig& config, const RandomWeights& weights, Precision precision)
      : c_(config), weights_(weights), precision_(precision) {}

  std::vector<Row> logits(const std::vector<TokenId>& ids) {
    const Row embedding = get("model.embed_tokens.weight");
    std::vector<Row> hidden;
    for (const TokenId id : ids) {
      const auto from = embedding.begin() + static_cast<std::ptrdiff_t>(id) * c_.hidden_size;
      hidden.emplace_back(from, from + c_.hidden_size);
    }
    for (std::uint32_t layer = 0; layer < c_.num_layers; ++layer) run_layer(layer, hidden);
    std::vector<Row> out;
    const std::string head = c_.tied_embeddings ? "model.embed_tokens" : "lm_head";
    for (const Row& row : hidden) out.push_back(linear(head, false, norm("model.norm", row)));
    return out;
  }

 private:
  Row get(const std::string& name) const { return weights_.values(name, precision_); }
  /// Vectors stay f32 in the engine.
  Row vector(const std::string& name) const { return weights_.values(name, Precision::f32); }

  Row linear(const std::string& name, bool bias, const Row& x) const {
    const Row w = get(name + ".weight");
    Row y = bias ? vector(name + ".bias") : Row(w.size() / x.size(), 0.0);
    for (std::size_t o = 0; o < y.size(); ++o) {
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
    }
    return y;
  }

  Row scaled(const Row& x, const Row& weight) const {
    double squares = 0.0;
    for (const double v : x) squares += v * v;
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + c_.norm_eps);
    Row y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
    return y;
  }

  Row norm(const std::string& name, Row x) const {
    if (c_.norm == NormKind::rms) return scaled(x, vector(name + ".weight"));
    double mean = 0.0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (double& v : x) v -= mean;
    Row y = scaled(x, vector(name + ".weight"));
    const Row bias = vector(name + ".bias");
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += bias[i];
    return y;
  }

  /// Angle and magnitude of one rotary pair, from the papers' formulas.
  double angle(std::size_t position, std::size_t pair) const {
    const auto& rope = c_.rope;
    const double dim = c_.head_dim;
    const double exponent = 2.0 * static_cast<double>(pair) / dim;
    const double trained =
        rope.original_max_position ? rope.original_max_position : c_.max_position;
    const double plain = 1.0 / std::pow(rope.theta, exponent);
    const double at = static_cast<double>(position);
    switch (rope.scaling) {
      case RopeScaling::none: return at * plain;
      case RopeScaling::linear: return at / rope.factor * plain;
      case RopeScaling::dynamic: {
        const double length = std::max(at + 1.0, trained);
        const double grown = rope.factor * length / trained - (rope.factor - 1.0);
        return at / std::pow(rope.theta * std::pow(grown, dim / (dim - 2.0)), exponent);
      }
      case RopeScaling::llama3: {
        const double turns = trained * plain / (2.0 * kPi);  // in the trained context
        if (turns < rope.low_freq_factor) return at * plain / rope.factor;
        if (turns > rope.high_freq_factor) return at * plain;
        const double kept =
            (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
        return at * plain * (kept + (1.0 - kept) / rope.factor);
      }
      case RopeScaling::yarn: {
        const auto pair_with = [&](double turns) {
          return dim / 2.0 * std::log(trained / (2.0 * kPi * turns)) / std::log(rope.theta);
        };
        const double low = std::max(std::floor(pair_with(rope.beta_fast)), 0.0);
        double high = std::min(std::ceil(pair_with(rope.beta_slow)), dim - 1.0);
        if (high == low) high += 0.001;
        const double stretch =
            std::min(std::max((static_cast<double>(pair) - low) / (high - low), 0.0), 1.0);
        return at * plain * ((1.0 - stretch) + stretch / rope.factor);
      }
    }
    return 0.0;
  }

  double magnitude() const {
    const auto& rope = c_.rope;
    if (rope.scaling != RopeScaling::yarn) return 1.0;
    return rope.attention_factor != 0.0 ? rope.attention_factor : 1.0 + 0.1 * std::log(rope.factor);
  }

  /// One head of q or k: its own norm if the model has one, then rotated.
  Row prepared(const Row& all, std::size_t head, std::size_t position,
               const std::string& name) const {
    const std::size_t dim = c_.head_dim;
    Row x(all.begin() + static_cast<std::ptrdiff_t>(head * dim),
          all.begin() + static_cast<std::ptrdiff_t>((head + 1) * dim));
    if (c_.qk_norm) x = scaled(x, vector(name + ".weight"));
    Row y(dim);
    for (std::size_t i = 0; i < dim / 2; ++i) {
      const double turn = angle(position, i);
      const double cosine = std::cos(turn) * magnitude();
      const double sine = std::sin(turn) * magnitude();
      y[i] = x[i] * cosine - x[i + dim / 2] * sine;
      y[i + dim / 2] = x[i + dim / 2] * cosine + x[i] * sine;
    }
    return y;
  }

  static double activate(Activation activation, double x) {
    switch (activation) {
      case Activation::silu: return x / (1.0 + std::exp(-x));
      case Activation::gelu: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
      case Activation::gelu_tanh:
        return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / kPi) * (x + 0.044715 * x * x * x)));
      case Activation::relu: return std::max(x, 0.0);
    }
    return 0.0;
  }

  Row mlp(const std::string& prefix, const Row& x) const {
    if (!c_.gated_mlp) {
      Row up = linear(prefix + "c_fc", c_.mlp_bias, x);
      for (double& v : up) v = activate(c_.activation, v);
      return linear(prefix + "c_proj", c_.mlp_bias, up);
    }
    Row gate = linear(prefix + "gate_proj", c_.mlp_bias, x);
    const Row up = linear(prefix + "up_proj", c_.mlp_bias, x);
    for (std::size_t i = 0; i < gate.size(); ++i)
      gate[i] = activate(c_.activation, gate[i]) * up[i];
    return linear(prefix + "down_proj", c_.mlp_bias, gate);
  }

  void run_layer(std::uint32_t layer, std::vector<Row>& hidden) const {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const std::string self = prefix + "self_attn.";
    const std::size_t dim = c_.head_dim;
    std::vector<Row> q, k, v;
    for (const Row& row : hidden) {
      const Row x = norm(prefix + "input_layernorm", row);
      q.push_back(linear(self + "q_proj", c_.qkv_bias, x));
      k.push_back(linear(self + "k_proj", c_.qkv_bias, x));
      v.push_back(linear(self + "v_proj", c_.qkv_bias, x));
    }
    const std::size_t window = c_.window_of(layer);
    for (std::size_t t = 0; t < hidden.size(); ++t) {
      Row attended(c_.q_size(), 0.0);
      for (std::size_t head = 0; head < c_.num_heads; ++head) {
        const std::size_t kv = head / (c_.num_heads / c_.num_kv_heads);
        const Row query = prepared(q[t], head, t, self + "q_norm");
        const std::size_t from = window != 0 && t + 1 > window ? t + 1 - window : 0;
        Row score(t + 1, 0.0);
        double total = 0.0;
        for (std::size_t s = from; s <= t; ++s) {
          const Row key = prepared(k[s], kv, s, self + "k_norm");
          for (std::size_t i = 0; i < dim; ++i) score[s] += query[i] * key[i];
          score[s] = std::exp(score[s] / std::sqrt(static_cast<double>(dim)));
          total += score[s];
        }
        for (std::size_t s = from; s <= t; ++s) {
          for (std::size_t i = 0; i < dim; ++i) {
            attended[head * dim + i] += score[s] / total * v[s][kv * dim + i];
          }
        }
      }
      add(hidden[t], linear(self + "o_proj", c_.attention_out_bias, attended));
      add(hidden[t], mlp(prefix + "mlp.", norm(prefix + "post_attention_layernorm", hidden[t])));
    }
  }

  static void add(Row& x, const Row& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  const ModelConfig& c_;
  const RandomWeights& weights_;
  Precision precision_;
};

}  // namespace

RandomWeights::RandomWeights(const ModelConfig& config, DType dtype, std::uint64_t seed)
    : dtype_(dtype) {
  std::mt19937_64 random(seed);
  for (const model::TensorSpec& spec : required_tensors(config, {0, config.num_layers}, true)) {
    const bool matrix = spec.shape.size() > 1;
    const bool scale = !matrix && spec.name.ends_with("norm.weight");
    const double spread = matrix ? 1.0 / std::sqrt(static_cast<double>(spec.shape[1])) : 0.3;
    std::normal_distribution<double> normal(scale ? 1.0 : 0.0, spread);
    std::size_t count = 1;
    for (const std::uint64_t size : spec.shape) count *= size;
    Tensor& tensor = tensors_[spec.name];
    tensor.shape = spec.shape;
    tensor.bytes.resize(count * bytes_of(dtype));
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(normal(random));
      const std::uint16_t half = dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
      if (dtype == DType::f32) {
        std::memcpy(tensor.bytes.data() + 4 * i, &value, 4);
      } else {
        std::memcpy(tensor.bytes.data() + 2 * i, &half, 2);
      }
    }
  }
}

Result<model::TensorView> RandomWeights::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end()) return {Errc::config_mismatch, std::string(name)};
  return model::TensorView{dtype_, at->second.shape, at->second.bytes};
}

std::vector<double> RandomWeights::values(const std::string& name, Precision precision) const {
  const std::vector<std::byte>& bytes = tensors_.at(name).bytes;
  std::vector<double> out;
  for (std::size_t i = 0; i < bytes.size(); i += bytes_of(dtype_)) {
    float value = 0.0F;
    if (dtype_ == DType::f32) {
      std::memcpy(&value, bytes.data() + i, 4);
    } else {
      std::uint16_t half = 0;
      std::memcpy(&half, bytes.data() + i, 2);
      value = dtype_ == DType::bf16 ? bf16_to_f32(half) : f16_to_f32(half);
    }
    if (precision == Precision::bf16) value = bf16_to_f32(f32_to_bf16(value));
    out.push_back(value);
  }
  return out;
}

std::vector<std::vector<double>> plain_logits(const ModelConfig& config,
                                              const RandomWeights& weights, Precision precision,
                                              const std::vector<TokenId>& ids) {
  return PlainDecoder(config, weights, precision).logits(ids);
}

}  // namespace farmesh::golden
