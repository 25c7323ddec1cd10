// Libtorch's functions as the Ops made of them use them; what only newer versions have is behind
// the same face as what stands in for it in older ones.
#pragma once

#include <cstdint>

#include "model/model_config.hpp"
#include "model/torch/torch.hpp"

namespace farmesh::model::library {

/// softmax(q k^T / sqrt(dim)) v in q's dtype, by a fused kernel from 2.5 on. q [batch, heads,
/// rows, dim]; k, v [batch, kv heads, positions, dim], heads a multiple of kv heads. `seen`, bool,
/// expands to [batch, heads, rows, positions]; undefined: each row sees its own position and those
/// before it, and rows equal positions.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& seen);

/// x over its root mean square along the last dimension, times weight; all f32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// Ops::activate, in place.
void activate(const at::Tensor& wide, Activation activation, bool gated);

/// int4 weights as the library's own product wants them.
struct Int4Weights {
  at::Tensor packed;
  at::Tensor scales_and_zeros;
};

/// `steps` u8 [out, in], of -8 to 7 with 8 added; `scales` bf16 [out, in / group]. Undefined
/// tensors where this version or device has no such product for them; throws c10::Error where it
/// finds that out itself.
Int4Weights pack_int4(const at::Tensor& steps, const at::Tensor& scales, std::int64_t group);
/// x W^T, bf16.
at::Tensor multiply_int4(const at::Tensor& x, const Int4Weights& weights, std::int64_t group);

}  // namespace farmesh::model::library
