// Sixteen lanes as an array, for machines without AVX2: the definition that the other two match.
//
// Everything lives in an unnamed namespace, and no standard library function is called: the
// files that include this are compiled for different machines, and the linker must not be able
// to share a function between them.
#pragma once

#include <cstdint>

namespace farmesh::kernels {
namespace {

#define FARMESH_SIMD [[gnu::always_inline]] inline

constexpr int kTileRows = 4;
constexpr int kTilePanels = 1;
constexpr int kQuantRows = 4;  // the same for quantised weights
constexpr int kQuantPanels = 1;
constexpr int kQuantRowPanels = 1;  // for a lone row

struct F16 {
  float lane[16];
};
struct U16 {
  std::uint32_t lane[16];
};

template <class Function>
FARMESH_SIMD F16 each(Function function) {
  F16 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = function(i);
  return r;
}
FARMESH_SIMD float from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
FARMESH_SIMD std::uint32_t to_bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }

FARMESH_SIMD F16 zero() { return {}; }
FARMESH_SIMD F16 broadcast(float x) {
  return each([&](int) { return x; });
}
FARMESH_SIMD F16 load(const float* p) {
  return each([&](int i) { return p[i]; });
}
/// The first n lanes; the others are 0 and their memory is not read.
FARMESH_SIMD F16 load_part(const float* p, std::int64_t n) {
  return each([&](int i) { return i < n ? p[i] : 0.0F; });
}
FARMESH_SIMD void store(float* p, F16 a) {
  for (int i = 0; i < 16; ++i) p[i] = a.lane[i];
}
FARMESH_SIMD void store_part(float* p, F16 a, std::int64_t n) {
  for (int i = 0; i < n && i < 16; ++i) p[i] = a.lane[i];
}

/// a * b + c, rounded once.
FARMESH_SIMD F16 fma(F16 a, F16 b, F16 c) {
  return each([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
FARMESH_SIMD F16 add(F16 a, F16 b) {
  return each([&](int i) { return a.lane[i] + b.lane[i]; });
}
FARMESH_SIMD F16 sub(F16 a, F16 b) {
  return each([&](int i) { return a.lane[i] - b.lane[i]; });
}
FARMESH_SIMD F16 mul(F16 a, F16 b) {
  return each([&](int i) { return a.lane[i] * b.lane[i]; });
}
FARMESH_SIMD F16 div(F16 a, F16 b) {
  return each([&](int i) { return a.lane[i] / b.lane[i]; });
}
/// The second operand where the two do not compare (NaN), as x86 has it.
FARMESH_SIMD F16 max(F16 a, F16 b) {
  return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
FARMESH_SIMD F16 min(F16 a, F16 b) {
  return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
FARMESH_SIMD F16 select_less(F16 a, F16 b, F16 yes, F16 no) {
  return each([&](int i) { return a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i]; });
}
FARMESH_SIMD F16 abs(F16 a) {
  return each([&](int i) { return from_bits(to_bits(a.lane[i]) & 0x7fffffffU); });
}
FARMESH_SIMD F16 copy_sign(F16 magnitude, F16 sign) {
  return each([&](int i) {
    return from_bits((to_bits(magnitude.lane[i]) & 0x7fffffffU) |
                     (to_bits(sign.lane[i]) & 0x80000000U));
  });
}
/// 2^n for the integer n in the low bits of each lane, -126 <= n <= 127.
FARMESH_SIMD F16 exponent_from_low_bits(F16 a) {
  return each([&](int i) { return from_bits((to_bits(a.lane[i]) + 127) << 23); });
}

/// Subnormal operands and results of *_normal() count as zeros while one lives.
struct WithoutSubnormals {};
FARMESH_SIMD float normal(float x) {
  return (to_bits(x) & 0x7f800000U) != 0 ? x : from_bits(to_bits(x) & 0x80000000U);
}
FARMESH_SIMD F16 fma_normal(F16 a, F16 b, F16 c) {
  return each([&](int i) {
    return normal(__builtin_fmaf(normal(a.lane[i]), normal(b.lane[i]), normal(c.lane[i])));
  });
}
FARMESH_SIMD F16 add_normal(F16 a, F16 b) {
  return each([&](int i) { return normal(normal(a.lane[i]) + normal(b.lane[i])); });
}

/// Each 32-bit word holds two bf16: inputs k (low half) and k + 1 (high half) of one output.
FARMESH_SIMD U16 load_pairs(const std::uint32_t* p) {
  U16 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = p[i];
  return r;
}
FARMESH_SIMD F16 low_bf16(U16 a) {
  return each([&](int i) { return from_bits(a.lane[i] << 16); });
}
FARMESH_SIMD F16 high_bf16(U16 a) {
  return each([&](int i) { return from_bits(a.lane[i] & 0xffff0000U); });
}
FARMESH_SIMD F16 load(const std::uint16_t* p) {
  return each([&](int i) { return from_bits(static_cast<std::uint32_t>(p[i]) << 16); });
}
FARMESH_SIMD F16 load_part(const std::uint16_t* p, std::int64_t n) {
  return each(
      [&](int i) { return i < n ? from_bits(static_cast<std::uint32_t>(p[i]) << 16) : 0.0F; });
}
FARMESH_SIMD F16 load(const std::int8_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}
FARMESH_SIMD std::uint32_t bf16_bits(float x) {
  const std::uint32_t bits = to_bits(x);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return bits >> 16 | 0x40;
  return (bits + 0x7fffU + (bits >> 16 & 1)) >> 16;
}
FARMESH_SIMD F16 round_bf16(F16 a) {
  return each([&](int i) { return from_bits(bf16_bits(a.lane[i]) << 16); });
}
FARMESH_SIMD void store_bf16_part(std::uint16_t* p, F16 a, std::int64_t n) {
  for (int i = 0; i < n && i < 16; ++i) p[i] = static_cast<std::uint16_t>(bf16_bits(a.lane[i]));
}

/// The larger bits as integers: for lanes without a sign this is the larger number, and a NaN is
/// larger than any.
FARMESH_SIMD F16 max_bits(F16 a, F16 b) {
  return each(
      [&](int i) { return to_bits(a.lane[i]) > to_bits(b.lane[i]) ? a.lane[i] : b.lane[i]; });
}
FARMESH_SIMD float fold_max_bits(F16 a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) {
      if (to_bits(a.lane[i + step]) > to_bits(a.lane[i])) a.lane[i] = a.lane[i + step];
    }
  }
  return a.lane[0];
}
/// The lowest byte of each lane's bits.
FARMESH_SIMD void store_low_bytes(std::uint8_t* p, F16 a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(to_bits(a.lane[i]));
}

/// Sums of whole numbers, one of each output.
struct I16 {
  std::int32_t lane[16];
};
FARMESH_SIMD F16 to_float(I16 a) {
  return each([&](int i) { return static_cast<float>(a.lane[i]); });
}

/// Four 8-bit weights of each of sixteen outputs, stored as the weight + 128.
struct Bytes {
  std::uint8_t at[64];
};
/// Four 4-bit weights of each, stored as the weight + 8.
struct Nibbles {
  std::uint8_t at[64];
};
FARMESH_SIMD Bytes load_bytes(const std::uint8_t* p) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.at[i] = p[i];
  return r;
}
/// The low halves of 64 bytes, and their high halves.
FARMESH_SIMD Nibbles low_nibbles(const std::uint8_t* p) {
  Nibbles r;
  for (int i = 0; i < 64; ++i) r.at[i] = p[i] & 15;
  return r;
}
FARMESH_SIMD Nibbles high_nibbles(const std::uint8_t* p) {
  Nibbles r;
  for (int i = 0; i < 64; ++i) r.at[i] = p[i] >> 4;
  return r;
}
/// What a sum of dot() begins with, given minus the sum of the inputs: it takes back what the
/// weights were stored with.
FARMESH_SIMD I16 begin_bytes(std::int32_t minus_inputs) {
  I16 r;
  for (std::int32_t& lane : r.lane) lane = minus_inputs * 128;
  return r;
}
FARMESH_SIMD I16 begin_nibbles(std::int32_t minus_inputs) {
  I16 r;
  for (std::int32_t& lane : r.lane) lane = minus_inputs * 8;
  return r;
}
/// sum + weights times four inputs: the signed bytes of `x`, the first one lowest. No input is
/// -128.
FARMESH_SIMD I16 dot_stored(const std::uint8_t* weights, std::uint32_t x, I16 sum) {
  std::int32_t inputs[4];
  for (int j = 0; j < 4; ++j) inputs[j] = static_cast<std::int8_t>(x >> 8 * j);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 4; ++j) sum.lane[i] += weights[4 * i + j] * inputs[j];
  }
  return sum;
}
FARMESH_SIMD I16 dot(const Bytes& w, std::uint32_t x, I16 sum) { return dot_stored(w.at, x, sum); }
FARMESH_SIMD I16 dot(const Nibbles& w, std::uint32_t x, I16 sum) {
  return dot_stored(w.at, x, sum);
}

/// Lane i with lane i + 8, then + 4, + 2, + 1.
FARMESH_SIMD float fold_add(F16 a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) a.lane[i] += a.lane[i + step];
  }
  return a.lane[0];
}
FARMESH_SIMD float fold_max(F16 a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) {
      a.lane[i] = a.lane[i] > a.lane[i + step] ? a.lane[i] : a.lane[i + step];
    }
  }
  return a.lane[0];
}

FARMESH_SIMD float square_root(float x) { return __builtin_sqrtf(x); }
FARMESH_SIMD void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
}  // namespace farmesh::kernels
