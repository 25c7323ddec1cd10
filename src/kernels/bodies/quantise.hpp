// Floats to quantised groups: rows as they are multiplied, weights as they are loaded, keys and
// values as they come.
//
// Everything is rounded by the same operations on every instruction set, so that two machines
// hold the same weights.
#pragma once

#include "kernels/bodies/product.hpp"

namespace farmesh::kernels {
namespace {

// 1.5 * 2^23: added to a number below 2^22 it leaves the nearest integer in the low bits.
inline constexpr float kWhole = 12582912.0F;

// A group whose largest weight or input is smaller than this counts as zeros: its scale and the
// scale's inverse are then always normal numbers.
inline constexpr float kSmallest = 1e-30F;

/// kGroup inputs of one row; the words of `rows` rows alternate.
FARMESH_SIMD void quantise_group(F16 low, F16 high, std::uint32_t* to, std::int64_t rows) {
  const float top = fold_max_bits(max_bits(abs(low), abs(high)));
  float scale = top / 127.0F;
  float inverse = 127.0F / top;
  const float nothing = top - top;  // NaN where an input is infinite or NaN
  if (!(top > kSmallest && nothing == 0.0F)) {
    scale = nothing;  // then every output of the row is NaN
    inverse = 0.0F;
    low = high = zero();
  }
  const F16 whole = broadcast(kWhole);
  const F16 rounded_low = fma(low, broadcast(inverse), whole);
  const F16 rounded_high = fma(high, broadcast(inverse), whole);
  alignas(64) std::uint8_t bytes[kGroup];
  store_low_bytes(bytes, rounded_low);
  store_low_bytes(bytes + kLanes, rounded_high);
  const float sum = fold_add(add(sub(rounded_low, whole), sub(rounded_high, whole)));
  for (std::int64_t step = 0; step < kGroup / 4; ++step) {
    std::uint32_t word;
    __builtin_memcpy(&word, bytes + 4 * step, sizeof word);
    to[step * rows] = word;
  }
  to[kGroup / 4 * rows] = __builtin_bit_cast(std::uint32_t, scale);
  to[(kGroup / 4 + 1) * rows] = static_cast<std::uint32_t>(-static_cast<std::int32_t>(sum));
}

void quantise_rows(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
                   void* packed) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * stride;
    std::uint32_t* to = static_cast<std::uint32_t*>(packed) + r;
    for (std::int64_t at = 0; at < groups_of(cols) * kGroup; at += kGroup) {
      quantise_group(load_some(from + at, cols - at),
                     load_some(from + at + kLanes, cols - at - kLanes), to, rows);
      to += kGroupWords * rows;
    }
  }
}

/// As bf16, and zero where it would be no normal number.
FARMESH_SIMD F16 stored_scale(F16 scale) {
  return round_bf16(select_less(abs(scale), broadcast(kSmallest), zero(), scale));
}
FARMESH_SIMD F16 inverse_of(F16 scale) {
  return select_less(zero(), abs(scale), div(broadcast(1.0F), scale), zero());
}

void quantise_int8(const float* tile, std::uint8_t* weights, std::uint16_t* scales) {
  F16 top = zero();
  for (std::int64_t k = 0; k < kGroup; ++k) top = max_bits(top, abs(load(tile + k * kLanes)));
  const F16 scale = stored_scale(div(top, broadcast(127.0F)));
  store_bf16_part(scales, scale, kLanes);
  const F16 inverse = inverse_of(scale);
  alignas(64) std::uint8_t stored[kGroup][kLanes];  // weight + 128
  for (std::int64_t k = 0; k < kGroup; ++k) {
    const F16 steps = mul(load(tile + k * kLanes), inverse);
    const F16 kept = min(max(steps, broadcast(-127.0F)), broadcast(127.0F));
    store_low_bytes(stored[k], add(kept, broadcast(kWhole + 128.0F)));
  }
  for (std::int64_t k = 0; k < kGroup; ++k) {
    std::uint8_t* line = weights + k / 4 * 4 * kLanes + k % 4;
    for (std::int64_t out = 0; out < kLanes; ++out) line[4 * out] = stored[k][out];
  }
}

/// The scale at which the largest of n numbers is 127; NaN where one is infinite or NaN.
FARMESH_SIMD F16 byte_scale(const float* x, std::int64_t n) {
  F16 tops = zero();
  for_lanes(n, [&](std::int64_t i, std::int64_t lanes) {
    tops = max_bits(tops, abs(load_lanes(x + i, lanes)));
  });
  const float top = fold_max_bits(tops);
  const F16 scale = stored_scale(div(broadcast(top), broadcast(127.0F)));
  return add(scale, broadcast(top - top));
}
/// The nearest of -127 to 127 for each number, plus `offset`, in its lane's lowest byte.
FARMESH_SIMD F16 nearest_bytes(F16 x, F16 inverse, float offset) {
  const F16 kept = min(max(mul(x, inverse), broadcast(-127.0F)), broadcast(127.0F));
  return add(kept, broadcast(kWhole + offset));
}

void store_int8(const float* key, const float* value, std::int64_t head_dim, std::int64_t slot,
                std::uint8_t* key_block, std::uint8_t* value_block) {
  constexpr std::int64_t kWord = 4;
  alignas(64) std::uint8_t stored[kGroup];
  auto* scales = reinterpret_cast<std::uint16_t*>(key_block + byte_keys_of(head_dim)) + slot;
  for (std::int64_t at = 0; at < head_dim; at += kGroup) {
    const std::int64_t size = head_dim - at < kGroup ? head_dim - at : kGroup;
    const F16 scale = byte_scale(key + at, size);
    const F16 inverse = inverse_of(scale);
    for (std::int64_t i = 0; i < kGroup; i += kLanes) {
      store_low_bytes(stored + i,
                      nearest_bytes(load_some(key + at + i, size - i), inverse, 128.0F));
    }
    for (std::int64_t i = 0; i < kGroup; i += kWord) {
      __builtin_memcpy(key_block + (at + i) * kLanes + slot * kWord, stored + i, kWord);
    }
    store_bf16_part(scales, scale, 1);
    scales += kLanes;
  }
  const F16 scale = byte_scale(value, head_dim);
  const F16 inverse = inverse_of(scale);
  std::uint8_t* row = value_block + slot * value_dim_of(head_dim);
  for (std::int64_t at = 0; at < head_dim; at += kLanes) {
    store_low_bytes(row + at, nearest_bytes(load_some(value + at, head_dim - at), inverse, 0.0F));
  }
  store_bf16_part(scales, scale, 1);
}

/// The nearest of the sixteen 4-bit weights, -8 to 7, for a weight measured in scales.
FARMESH_SIMD F16 nearest_int4(F16 steps) {
  const F16 kept = min(max(steps, broadcast(-8.0F)), broadcast(7.0F));
  return sub(add(kept, broadcast(kWhole)), broadcast(kWhole));
}

/// Tries several places for the group's largest weight among the sixteen steps, and for each takes
/// the scale with the smallest squared error: what the steps n and weights w give is
/// sum(nw) / sum(nn), and it takes sum(nw)^2 / sum(nn) off the error.
FARMESH_SIMD F16 best_int4_scale(const float* tile) {
  constexpr int kTries = 16;
  constexpr float kFirst = 6.6F;  // above 8 the largest weight is cut, which may pay
  constexpr float kApart = 0.2F;
  F16 top = zero();  // the largest in size, with its sign: the side with eight steps
  F16 all = zero();
  for (std::int64_t k = 0; k < kGroup; ++k) {
    const F16 w = load(tile + k * kLanes);
    top = select_less(abs(top), abs(w), w, top);
    all = add(all, w);
  }
  const F16 unit = inverse_of(select_less(abs(top), broadcast(kSmallest), zero(), top));
  F16 best = zero();
  F16 scale = zero();
  for (int i = 0; i < kTries; ++i) {
    const F16 inverse = mul(unit, broadcast(-(kFirst + kApart * static_cast<float>(i))));
    F16 nw = zero();
    F16 nn = zero();
    for (std::int64_t k = 0; k < kGroup; ++k) {
      const F16 w = load(tile + k * kLanes);
      const F16 n = nearest_int4(mul(w, inverse));
      nw = fma(n, w, nw);
      nn = fma(n, n, nn);
    }
    const F16 found = div(nw, nn);  // NaN of a group of zeros is never better
    const F16 gain = mul(nw, found);
    scale = select_less(best, gain, found, scale);
    best = select_less(best, gain, gain, best);
  }
  return fma(zero(), all, scale);  // NaN where a weight is infinite or NaN
}

void quantise_int4(const float* tile, std::uint8_t* weights, std::uint16_t* scales) {
  const F16 scale = stored_scale(best_int4_scale(tile));
  store_bf16_part(scales, scale, kLanes);
  const F16 inverse = inverse_of(scale);
  alignas(64) std::uint8_t stored[kGroup][kLanes];  // weight + 8
  for (std::int64_t k = 0; k < kGroup; ++k) {
    const F16 n = nearest_int4(mul(load(tile + k * kLanes), inverse));
    store_low_bytes(stored[k], add(n, broadcast(kWhole + 8.0F)));
  }
  for (std::int64_t k = 0; k < kGroup; k += 8) {
    std::uint8_t* line = weights + k / 8 * 4 * kLanes;
    for (std::int64_t i = 0; i < 4; ++i) {
      for (std::int64_t out = 0; out < kLanes; ++out) {
        const int low = stored[k + i][out] & 15;
        const int high = stored[k + i + 4][out] & 15;
        line[4 * out + i] = static_cast<std::uint8_t>(low | high << 4);
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::kernels
