// Exponential and friends on sixteen lanes, by our own polynomials: a libm would differ between
// machines. The bodies are compiled by each kernels_*.cpp, on the lanes of its own simd_*.hpp.
#pragma once

#include FARMESH_SIMD_HEADER

namespace farmesh::kernels {
namespace {

/// Relative error under 1e-7; 0 below -87.3, exp(88) above 88; NaN stays NaN.
FARMESH_SIMD F16 exp(F16 x) {
  const F16 clamped = min(broadcast(88.0F), x);  // a NaN in the second operand survives
  // 1.5 * 2^23 pushes the rounded integer into the low mantissa bits.
  const F16 magic = broadcast(12582912.0F);
  const F16 shifted = fma(clamped, broadcast(1.44269504F), magic);
  const F16 n = sub(shifted, magic);
  F16 r = fma(n, broadcast(-0.693145752F), clamped);  // ln 2 in two parts, the first exact
  r = fma(n, broadcast(-1.42860677e-6F), r);
  // (exp(r) - 1 - r) / r^2 on |r| <= ln 2 / 2, interpolated at Chebyshev nodes.
  F16 p = broadcast(1.392625039e-03F);
  p = fma(p, r, broadcast(8.363232948e-03F));
  p = fma(p, r, broadcast(4.166655242e-02F));
  p = fma(p, r, broadcast(1.666657627e-01F));
  p = fma(p, r, broadcast(0.5F));
  p = fma(mul(r, r), p, r);
  p = add(p, broadcast(1.0F));
  const F16 y = mul(p, exponent_from_low_bits(shifted));
  return select_less(x, broadcast(-87.3F), zero(), y);
}

/// exp(z^2) erfc(z) for z >= 0 (6 above 6), relative error under 1e-7.
FARMESH_SIMD F16 scaled_erfc(F16 z) {
  const F16 t = div(broadcast(1.0F), fma(z, broadcast(0.5F), broadcast(1.0F)));
  F16 p = broadcast(-5.236785114e-02F);
  p = fma(p, t, broadcast(2.511066794e-01F));
  p = fma(p, t, broadcast(-4.159404039e-01F));
  p = fma(p, t, broadcast(1.937662810e-01F));
  p = fma(p, t, broadcast(3.384862840e-02F));
  p = fma(p, t, broadcast(1.758072227e-01F));
  p = fma(p, t, broadcast(2.503185570e-01F));
  p = fma(p, t, broadcast(2.813079059e-01F));
  p = fma(p, t, broadcast(2.821529806e-01F));
  return mul(p, t);
}

FARMESH_SIMD F16 sigmoid(F16 x) {
  return div(broadcast(1.0F), add(broadcast(1.0F), exp(sub(zero(), x))));
}

struct Silu {
  FARMESH_SIMD F16 operator()(F16 x) const { return mul(x, sigmoid(x)); }
};
struct Gelu {  // x Phi(x), from the small tail so that large negative x keep their digits
  FARMESH_SIMD F16 operator()(F16 x) const {
    const F16 z = min(broadcast(6.0F), mul(abs(x), broadcast(0.707106781F)));
    const F16 tail = mul(mul(broadcast(0.5F), exp(sub(zero(), mul(z, z)))), scaled_erfc(z));
    return mul(x, select_less(x, zero(), tail, sub(broadcast(1.0F), tail)));
  }
};
struct GeluTanh {  // 0.5 x (1 + tanh(u)) = x sigmoid(2u)
  FARMESH_SIMD F16 operator()(F16 x) const {
    const F16 u = mul(x, fma(mul(x, x), broadcast(0.0713548163F), broadcast(1.59576912F)));
    return mul(x, sigmoid(u));
  }
};
struct Relu {
  FARMESH_SIMD F16 operator()(F16 x) const { return max(zero(), x); }
};

}  // namespace
}  // namespace farmesh::kernels
