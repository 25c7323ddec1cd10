#include "model/torch/library.hpp"

#include <cmath>
#include <limits>

#include <torch/version.h>

#define FARMESH_TORCH_FROM(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||      \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace farmesh::model::library {

#if FARMESH_TORCH_FROM(2, 5)

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& seen) {
  const bool grouped = q.size(1) != k.size(1);
  if (!seen.defined()) {
    return at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true, {}, grouped);
  }
  return at::scaled_dot_product_attention(q, k, v, seen, 0.0, /*is_causal=*/false, {}, grouped);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return at::rms_norm(x, {x.size(-1)}, weight, eps);
}

#else

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& seen) {
  const std::int64_t group = q.size(1) / k.size(1);
  const auto wide = [&](const at::Tensor& x) {
    return x.to(at::kFloat).repeat_interleave(group, 1);
  };
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor scores = at::matmul(q.to(at::kFloat).mul(scale), wide(k).transpose(2, 3));
  const at::Tensor unseen =
      seen.defined() ? seen.logical_not()
                     : at::ones({q.size(2), k.size(2)}, scores.options().dtype(at::kBool)).triu(1);
  const at::Tensor weights =
      scores.masked_fill(unseen, -std::numeric_limits<float>::infinity()).softmax(-1);
  return at::matmul(weights, wide(v)).to(q.scalar_type());
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x.mul(x.square().mean(-1, true).add(eps).rsqrt()).mul(weight);
}

#endif

void activate(const at::Tensor& wide, Activation activation, bool gated) {
  const std::int64_t half = gated ? wide.size(1) / 2 : wide.size(1);
  const at::Tensor gate = wide.narrow(1, 0, half);
  at::Tensor opened;
  switch (activation) {
    case Activation::silu: opened = at::silu(gate); break;
    case Activation::gelu: opened = at::gelu(gate); break;
    case Activation::gelu_tanh: opened = at::gelu(gate, "tanh"); break;
    case Activation::relu: opened = at::relu(gate); break;
  }
  if (gated) opened = opened.mul(wide.narrow(1, half, half));
  gate.copy_(opened);
}

#if FARMESH_TORCH_FROM(2, 6)

namespace {

constexpr std::int64_t kInnerTiles = 2;  // of 16 inputs each; a group of 32 is two

bool on_cpu(const at::Tensor& tensor) { return tensor.device().is_cpu(); }

}  // namespace

Int4Weights pack_int4(const at::Tensor& steps, const at::Tensor& scales, std::int64_t group) {
  const std::int64_t outs = steps.size(0), ins = steps.size(1);
  if (ins % group != 0 || outs % 16 != 0) return {};
  Int4Weights weights;
  if (on_cpu(steps)) {
    weights.packed = at::_convert_weight_to_int4pack_for_cpu(steps.to(at::kInt), kInnerTiles);
  } else {
    const at::Tensor pairs = steps.unflatten(1, {ins / 2, 2});
    const at::Tensor bytes =
        pairs.select(2, 0).mul(16).add(pairs.select(2, 1)).to(at::kByte).contiguous();
    weights.packed = at::_convert_weight_to_int4pack(bytes, kInnerTiles);
  }
  weights.scales_and_zeros =
      at::stack({scales, at::zeros_like(scales)}, 2).transpose(0, 1).contiguous();
  return weights;
}

at::Tensor multiply_int4(const at::Tensor& x, const Int4Weights& weights, std::int64_t group) {
  if (on_cpu(x)) {
    return at::_weight_int4pack_mm_for_cpu(x, weights.packed, group, weights.scales_and_zeros);
  }
  return at::_weight_int4pack_mm(x, weights.packed, group, weights.scales_and_zeros);
}

#else

Int4Weights pack_int4(const at::Tensor&, const at::Tensor&, std::int64_t) { return {}; }

at::Tensor multiply_int4(const at::Tensor&, const Int4Weights&, std::int64_t) {
  TORCH_CHECK(false, "libtorch " TORCH_VERSION " has no product of int4 weights");
}

#endif

}  // namespace farmesh::model::library
