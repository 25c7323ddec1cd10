// Norms, rotary pairs, activations, conversions.
#pragma once

#include "kernels/bodies/math.hpp"
#include "kernels/kernel_table.hpp"

namespace farmesh::kernels {
namespace {

/// Calls body(offset, lanes) for whole vectors, then for the rest.
template <class Body>
FARMESH_SIMD void for_lanes(std::int64_t n, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}
template <class T>
FARMESH_SIMD F16 load_lanes(const T* p, std::int64_t lanes) {
  return lanes == kLanes ? load(p) : load_part(p, lanes);
}
FARMESH_SIMD void store_lanes(float* p, F16 a, std::int64_t lanes) {
  if (lanes == kLanes) {
    store(p, a);
  } else {
    store_part(p, a, lanes);
  }
}

void rms_norm(const float* x, const float* weight, float eps, float* y, std::int64_t n) {
  F16 squares = zero();
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    const F16 v = load_lanes(x + i, lanes);
    squares = fma(v, v, squares);
  });
  const float mean = fold_add(squares) / static_cast<float>(n);
  const F16 scale = broadcast(1.0F / square_root(mean + eps));
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    const F16 v = mul(load_lanes(x + i, lanes), scale);
    store_lanes(y + i, mul(v, load_lanes(weight + i, lanes)), lanes);
  });
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* y,
                std::int64_t n) {
  F16 sum = zero();
  for_lanes(n,
            [&](std::int64_t i, std::int64_t lanes) { sum = add(sum, load_lanes(x + i, lanes)); });
  const F16 mean = broadcast(fold_add(sum) / static_cast<float>(n));
  F16 squares = zero();
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    // The lanes past the end must count as zero, not as -mean.
    const F16 v = lanes == kLanes ? sub(load(x + i), mean) : [&] {
      alignas(64) float part[kLanes] = {};
      store_part(part, sub(load_part(x + i, lanes), mean), lanes);
      return load(part);
    }();
    squares = fma(v, v, squares);
  });
  const float variance = fold_add(squares) / static_cast<float>(n);
  const F16 scale = broadcast(1.0F / square_root(variance + eps));
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    const F16 v = mul(sub(load_lanes(x + i, lanes), mean), scale);
    const F16 shifted = fma(v, load_lanes(weight + i, lanes), load_lanes(bias + i, lanes));
    store_lanes(y + i, shifted, lanes);
  });
}

void rotate(float* x, const float* cos, const float* sin, std::int64_t n) {
  const std::int64_t half = n / 2;
  for_lanes(half, [&](std::int64_t i, std::int64_t lanes) {
    const F16 a = load_lanes(x + i, lanes);
    const F16 b = load_lanes(x + half + i, lanes);
    const F16 c = load_lanes(cos + i, lanes);
    const F16 s = load_lanes(sin + i, lanes);
    store_lanes(x + i, fma(a, c, sub(zero(), mul(b, s))), lanes);
    store_lanes(x + half + i, fma(b, c, mul(a, s)), lanes);
  });
}

template <class Function>
void activate(const float* x, float* y, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    store_lanes(y + i, Function()(load_lanes(x + i, lanes)), lanes);
  });
}

template <class Function>
void activate_gated(const float* gate, const float* up, float* y, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    const F16 opened = Function()(load_lanes(gate + i, lanes));
    store_lanes(y + i, mul(opened, load_lanes(up + i, lanes)), lanes);
  });
}

void add_to(float* x, const float* y, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    store_lanes(x + i, add(load_lanes(x + i, lanes), load_lanes(y + i, lanes)), lanes);
  });
}

void add_round_bf16(float* x, const float* y, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    const F16 sum = add(load_lanes(x + i, lanes), load_lanes(y + i, lanes));
    store_lanes(x + i, round_bf16(sum), lanes);
  });
}

void widen_bf16(const std::uint16_t* x, float* y, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    store_lanes(y + i, load_lanes(x + i, lanes), lanes);
  });
}

void narrow_bf16(const float* x, std::uint16_t* y, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    store_bf16_part(y + i, load_lanes(x + i, lanes), lanes);
  });
}

}  // namespace
}  // namespace farmesh::kernels
