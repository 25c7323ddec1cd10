// Sixteen lanes in two 256-bit registers. See simd_portable.hpp for the meaning of each function.
#pragma once

#include <cstdint>

#include <immintrin.h>

namespace farmesh::kernels {
namespace {

#define FARMESH_SIMD [[gnu::always_inline]] inline

constexpr int kTileRows = 6;  // 1 panel x 6 rows: 12 of 16 registers accumulate
constexpr int kTilePanels = 1;
constexpr int kQuantRows = 3;
constexpr int kQuantPanels = 1;
constexpr int kQuantRowPanels = 1;

struct F16 {
  __m256 a, b;  // lanes 0 to 7, 8 to 15
};
struct U16 {
  __m256i a, b;
};

FARMESH_SIMD __m256i first(std::int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

FARMESH_SIMD F16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
FARMESH_SIMD F16 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
FARMESH_SIMD F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
FARMESH_SIMD F16 load_part(const float* p, std::int64_t n) {
  return {_mm256_maskload_ps(p, first(n)), _mm256_maskload_ps(p + 8, first(n - 8))};
}
FARMESH_SIMD void store(float* p, F16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
FARMESH_SIMD void store_part(float* p, F16 x, std::int64_t n) {
  _mm256_maskstore_ps(p, first(n), x.a);
  _mm256_maskstore_ps(p + 8, first(n - 8), x.b);
}

FARMESH_SIMD F16 fma(F16 x, F16 y, F16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
FARMESH_SIMD F16 add(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
FARMESH_SIMD F16 sub(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
FARMESH_SIMD F16 mul(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
FARMESH_SIMD F16 div(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
FARMESH_SIMD F16 max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
FARMESH_SIMD F16 min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
FARMESH_SIMD F16 select_less(F16 x, F16 y, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
FARMESH_SIMD F16 abs(F16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
FARMESH_SIMD F16 copy_sign(F16 magnitude, F16 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0F);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.a), _mm256_and_ps(bit, sign.a)),
          _mm256_or_ps(_mm256_andnot_ps(bit, magnitude.b), _mm256_and_ps(bit, sign.b))};
}
FARMESH_SIMD __m256 exponent_from_low_bits(__m256 x) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(127)), 23));
}
FARMESH_SIMD F16 exponent_from_low_bits(F16 x) {
  return {exponent_from_low_bits(x.a), exponent_from_low_bits(x.b)};
}

/// Subnormal operands and results count as zeros while one lives.
class WithoutSubnormals {
 public:
  WithoutSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushBits); }
  WithoutSubnormals(const WithoutSubnormals&) = delete;
  WithoutSubnormals& operator=(const WithoutSubnormals&) = delete;
  ~WithoutSubnormals() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kFlushBits = 0x8040;  // FTZ and DAZ of MXCSR
  unsigned before_;
};
FARMESH_SIMD F16 fma_normal(F16 a, F16 b, F16 c) { return fma(a, b, c); }
FARMESH_SIMD F16 add_normal(F16 a, F16 b) { return add(a, b); }

FARMESH_SIMD U16 load_pairs(const std::uint32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
FARMESH_SIMD F16 low_bf16(U16 x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(x.a, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(x.b, 16))};
}
FARMESH_SIMD F16 high_bf16(U16 x) {
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000U));
  return {_mm256_castsi256_ps(_mm256_and_si256(x.a, high)),
          _mm256_castsi256_ps(_mm256_and_si256(x.b, high))};
}
FARMESH_SIMD __m256 widen(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
FARMESH_SIMD F16 load(const std::uint16_t* p) {
  return {widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
FARMESH_SIMD F16 load_part(const std::uint16_t* p, std::int64_t n) {
  alignas(32) std::uint16_t lanes[16] = {};
  for (std::int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
FARMESH_SIMD __m256 widen_bytes(__m128i low) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low));
}
FARMESH_SIMD F16 load(const std::int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {widen_bytes(bytes), widen_bytes(_mm_unpackhi_epi64(bytes, bytes))};
}
FARMESH_SIMD __m256i bf16_bits(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i top = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, nan);
}
FARMESH_SIMD F16 round_bf16(F16 x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bf16_bits(x.a), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(bf16_bits(x.b), 16))};
}
FARMESH_SIMD void store_bf16_part(std::uint16_t* p, F16 x, std::int64_t n) {
  alignas(32) std::uint16_t lanes[16];
  const __m256i packed = _mm256_packus_epi32(bf16_bits(x.a), bf16_bits(x.b));
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                     _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
  if (n == 16) {
    __builtin_memcpy(p, lanes, sizeof lanes);
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

FARMESH_SIMD F16 max_bits(F16 x, F16 y) {
  return {
      _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(x.a), _mm256_castps_si256(y.a))),
      _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(x.b), _mm256_castps_si256(y.b)))};
}
FARMESH_SIMD float fold_max_bits(F16 x) {
  const __m256i eight = _mm256_max_epu32(_mm256_castps_si256(x.a), _mm256_castps_si256(x.b));
  const __m128i four =
      _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
  const __m128i one = _mm_max_epu32(two, _mm_shuffle_epi32(two, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtss_f32(_mm_castsi128_ps(one));
}
FARMESH_SIMD void store_low_bytes(std::uint8_t* p, F16 x) {
  const __m256i byte = _mm256_set1_epi32(255);
  const __m256i shorts = _mm256_packus_epi32(_mm256_and_si256(_mm256_castps_si256(x.a), byte),
                                             _mm256_and_si256(_mm256_castps_si256(x.b), byte));
  const __m256i ordered = _mm256_permute4x64_epi64(shorts, _MM_SHUFFLE(3, 1, 2, 0));
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}

struct I16 {
  __m256i a, b;
};
FARMESH_SIMD F16 to_float(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }

// Products of bytes are summed in pairs of 16 bits, saturating: 255 times 127 twice would not
// fit, so that weights go in as magnitudes and their signs move to the inputs.
struct Bytes {
  __m256i size_a, size_b, sign_a, sign_b;
};
struct Nibbles {
  __m256i a, b;
};
FARMESH_SIMD Bytes load_bytes(const std::uint8_t* p) {
  const __m256i offset = _mm256_set1_epi8(-128);
  const auto* from = reinterpret_cast<const __m256i*>(p);
  const __m256i a = _mm256_xor_si256(_mm256_loadu_si256(from), offset);
  const __m256i b = _mm256_xor_si256(_mm256_loadu_si256(from + 1), offset);
  return {_mm256_abs_epi8(a), _mm256_abs_epi8(b), a, b};
}
FARMESH_SIMD Nibbles low_nibbles(const std::uint8_t* p) {
  const __m256i mask = _mm256_set1_epi8(15);
  const auto* from = reinterpret_cast<const __m256i*>(p);
  return {_mm256_and_si256(_mm256_loadu_si256(from), mask),
          _mm256_and_si256(_mm256_loadu_si256(from + 1), mask)};
}
FARMESH_SIMD Nibbles high_nibbles(const std::uint8_t* p) {
  const __m256i mask = _mm256_set1_epi8(15);
  const auto* from = reinterpret_cast<const __m256i*>(p);
  return {_mm256_and_si256(_mm256_srli_epi16(_mm256_loadu_si256(from), 4), mask),
          _mm256_and_si256(_mm256_srli_epi16(_mm256_loadu_si256(from + 1), 4), mask)};
}
FARMESH_SIMD I16 begin_bytes(std::int32_t) {  // load_bytes() took the offset off
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
FARMESH_SIMD I16 begin_nibbles(std::int32_t minus_inputs) {
  const __m256i all = _mm256_set1_epi32(minus_inputs * 8);
  return {all, all};
}
FARMESH_SIMD __m256i dot_unsigned(__m256i w, __m256i x, __m256i sum) {
  const __m256i pairs = _mm256_maddubs_epi16(w, x);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
FARMESH_SIMD I16 dot(const Bytes& w, std::uint32_t x, I16 sum) {
  const __m256i inputs = _mm256_set1_epi32(static_cast<int>(x));
  return {dot_unsigned(w.size_a, _mm256_sign_epi8(inputs, w.sign_a), sum.a),
          dot_unsigned(w.size_b, _mm256_sign_epi8(inputs, w.sign_b), sum.b)};
}
FARMESH_SIMD I16 dot(const Nibbles& w, std::uint32_t x, I16 sum) {
  const __m256i inputs = _mm256_set1_epi32(static_cast<int>(x));
  return {dot_unsigned(w.a, inputs, sum.a), dot_unsigned(w.b, inputs, sum.b)};
}

FARMESH_SIMD float fold_add(F16 x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FARMESH_SIMD float fold_max(F16 x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

FARMESH_SIMD float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
FARMESH_SIMD void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

}  // namespace
}  // namespace farmesh::kernels
