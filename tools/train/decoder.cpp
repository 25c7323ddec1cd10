#include "train/decoder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace farmesh::train {
namespace {

constexpr std::int64_t kQueryBlock = 64;
constexpr double kCopying = 0.2;  // strength of a head's copy in a new model

torch::Tensor weight(std::int64_t out, std::int64_t in, double deviation) {
  return (torch::randn({out, in}) * deviation).requires_grad_();
}

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  return x * torch::rsqrt(x.square().mean(-1, true) + eps) * weight;
}

/// [heads * head_dim, hidden] from the rows that each group of query heads shares.
torch::Tensor repeated(const torch::Tensor& kv, const DecoderShape& shape) {
  const std::int64_t group = shape.heads / shape.kv_heads;
  return kv.view({shape.kv_heads, 1, shape.head_dim, shape.hidden})
      .expand({-1, group, -1, -1})
      .reshape({shape.heads * shape.head_dim, shape.hidden});
}

}  // namespace

Decoder::Decoder(const DecoderShape& shape) : shape_(shape) {
  const double deviation = 0.05;
  // Products that write into the residual stream start smaller, as in GPT-2.
  const double residual = deviation / std::sqrt(2.0 * static_cast<double>(shape.layers));
  const std::int64_t q_size = shape.heads * shape.head_dim;
  const std::int64_t kv_size = shape.kv_heads * shape.head_dim;
  const auto ones = [&] { return torch::ones({shape.hidden}).requires_grad_(); };
  embedding_ = weight(shape.vocabulary, shape.hidden, deviation);
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    auto v = weight(kv_size, shape.hidden, 1.0 / std::sqrt(static_cast<double>(shape.hidden)));
    // The output product undoes the value product, so that what a head attends to it copies.
    // A story needs that for its names, and from independent weights it is slow to appear
    // (in the spirit of Trockman and Kolter 2023, "Mimetic initialization").
    auto o = (kCopying * repeated(v.detach(), shape).t()).contiguous().requires_grad_();
    layers_.push_back({ones(), weight(q_size, shape.hidden, deviation),
                       weight(kv_size, shape.hidden, deviation), std::move(v), std::move(o), ones(),
                       weight(shape.feed_forward, shape.hidden, deviation),
                       weight(shape.feed_forward, shape.hidden, deviation),
                       weight(shape.hidden, shape.feed_forward, residual)});
  }
  final_norm_ = ones();

  const auto exponents = torch::arange(0, shape.head_dim, 2, torch::kFloat64) / shape.head_dim;
  const auto positions = torch::arange(shape.context, torch::kFloat64);
  const auto angles = torch::outer(positions, torch::pow(shape.rope_theta, -exponents));
  cos_ = angles.cos().to(torch::kFloat32);
  sin_ = angles.sin().to(torch::kFloat32);
}

torch::Tensor Decoder::rotated(const torch::Tensor& x) const {
  const std::int64_t length = x.size(1);  // x: [rows, length, heads, head_dim]
  const auto cos = cos_.slice(0, 0, length).unsqueeze(1);
  const auto sin = sin_.slice(0, 0, length).unsqueeze(1);
  const auto halves = x.chunk(2, -1);
  return torch::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

torch::Tensor Decoder::attention(const Layer& layer, const torch::Tensor& x,
                                 const torch::Tensor& mask) const {
  const std::int64_t rows = x.size(0), length = x.size(1);
  const std::int64_t kv_heads = shape_.kv_heads, head_dim = shape_.head_dim;
  const std::int64_t group = shape_.heads / kv_heads;  // query heads that share a KV head
  auto q = rotated(torch::linear(x, layer.q).view({rows, length, shape_.heads, head_dim}));
  auto k = rotated(torch::linear(x, layer.k).view({rows, length, kv_heads, head_dim}));
  auto v = torch::linear(x, layer.v).view({rows, length, kv_heads, head_dim});

  q = (q * (1.0 / std::sqrt(static_cast<double>(head_dim)))).transpose(1, 2);
  q = q.reshape({rows * kv_heads, group, length, head_dim});
  k = k.permute({0, 2, 3, 1}).reshape({rows * kv_heads, head_dim, length});
  v = v.transpose(1, 2).reshape({rows * kv_heads, length, head_dim});
  // Block by block of queries, each with the keys up to its end: half of the square is never seen.
  std::vector<torch::Tensor> mixed;
  for (std::int64_t begin = 0; begin < length; begin += kQueryBlock) {
    const std::int64_t end = std::min(begin + kQueryBlock, length), count = end - begin;
    const auto queries = q.slice(2, begin, end).reshape({-1, group * count, head_dim});
    const auto scores = torch::bmm(queries, k.slice(2, 0, end)).view({rows, -1, count, end}) +
                        mask.slice(2, begin, end).slice(3, 0, end);
    const auto seen = torch::softmax(scores, -1).view({rows * kv_heads, group * count, end});
    mixed.push_back(torch::bmm(seen, v.slice(1, 0, end)).view({rows, -1, count, head_dim}));
  }
  return torch::linear(
      torch::cat(mixed, 2).transpose(1, 2).reshape({rows, length, shape_.heads * head_dim}),
      layer.o);
}

torch::Tensor Decoder::logits(const torch::Tensor& ids, const torch::Tensor& documents) const {
  const std::int64_t length = ids.size(1);
  const auto same = documents.unsqueeze(2) == documents.unsqueeze(1);
  const auto causal = torch::ones({length, length}, torch::kBool).tril();
  const auto mask = torch::zeros({ids.size(0), 1, length, length})
                        .masked_fill_((same & causal).logical_not().unsqueeze(1),
                                      -std::numeric_limits<float>::infinity());
  auto x = torch::embedding(embedding_, ids);
  for (const Layer& layer : layers_) {
    x = x + attention(layer, rms_norm(x, layer.input_norm, shape_.norm_eps), mask);
    const auto normed = rms_norm(x, layer.post_norm, shape_.norm_eps);
    const auto gated =
        torch::silu(torch::linear(normed, layer.gate)) * torch::linear(normed, layer.up);
    x = x + torch::linear(gated, layer.down);
  }
  return torch::linear(rms_norm(x, final_norm_, shape_.norm_eps), embedding_);
}

std::vector<std::pair<std::string, torch::Tensor>> Decoder::parameters() const {
  std::vector<std::pair<std::string, torch::Tensor>> out{{"model.embed_tokens.weight", embedding_}};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    out.emplace_back(prefix + "input_layernorm.weight", layer.input_norm);
    out.emplace_back(prefix + "self_attn.q_proj.weight", layer.q);
    out.emplace_back(prefix + "self_attn.k_proj.weight", layer.k);
    out.emplace_back(prefix + "self_attn.v_proj.weight", layer.v);
    out.emplace_back(prefix + "self_attn.o_proj.weight", layer.o);
    out.emplace_back(prefix + "post_attention_layernorm.weight", layer.post_norm);
    out.emplace_back(prefix + "mlp.gate_proj.weight", layer.gate);
    out.emplace_back(prefix + "mlp.up_proj.weight", layer.up);
    out.emplace_back(prefix + "mlp.down_proj.weight", layer.down);
  }
  out.emplace_back("model.norm.weight", final_norm_);
  return out;
}

std::int64_t Decoder::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : parameters()) count += tensor.numel();
  return count;
}

}  // namespace farmesh::train
