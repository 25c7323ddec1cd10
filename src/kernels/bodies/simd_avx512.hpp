// Sixteen lanes in one 512-bit register. See simd_portable.hpp for the meaning of each function.
#pragma once

#include <cstdint>

#include <immintrin.h>

namespace farmesh::kernels {
namespace {

#define FARMESH_SIMD [[gnu::always_inline]] inline

constexpr int kTileRows = 12;  // 2 panels x 12 rows: 24 of 32 registers accumulate
constexpr int kTilePanels = 2;
constexpr int kQuantRows = 6;  // 12 sums of a group, 12 of all groups
constexpr int kQuantPanels = 2;
constexpr int kQuantRowPanels = 4;

struct F16 {
  __m512 v;
};
struct U16 {
  __m512i v;
};

FARMESH_SIMD __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1U << n) - 1); }

FARMESH_SIMD F16 zero() { return {_mm512_setzero_ps()}; }
FARMESH_SIMD F16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
FARMESH_SIMD F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
FARMESH_SIMD F16 load_part(const float* p, std::int64_t n) {
  return {_mm512_maskz_loadu_ps(first(n), p)};
}
FARMESH_SIMD void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
FARMESH_SIMD void store_part(float* p, F16 a, std::int64_t n) {
  _mm512_mask_storeu_ps(p, first(n), a.v);
}

FARMESH_SIMD F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FARMESH_SIMD F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
FARMESH_SIMD F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
FARMESH_SIMD F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
FARMESH_SIMD F16 div(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
FARMESH_SIMD F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
FARMESH_SIMD F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
FARMESH_SIMD F16 select_less(F16 a, F16 b, F16 yes, F16 no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
FARMESH_SIMD F16 abs(F16 a) { return {_mm512_abs_ps(a.v)}; }
FARMESH_SIMD F16 copy_sign(F16 magnitude, F16 sign) {
  const __m512i bit = _mm512_set1_epi32(INT32_MIN);
  return {_mm512_castsi512_ps(
      _mm512_or_si512(_mm512_andnot_si512(bit, _mm512_castps_si512(magnitude.v)),
                      _mm512_and_si512(bit, _mm512_castps_si512(sign.v))))};
}
FARMESH_SIMD F16 exponent_from_low_bits(F16 a) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_set1_epi32(127)), 23))};
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

FARMESH_SIMD U16 load_pairs(const std::uint32_t* p) { return {_mm512_loadu_si512(p)}; }
#ifdef __AVX512BF16__
#define FARMESH_BF16_DOTS
FARMESH_SIMD U16 broadcast_pair(std::uint32_t x) {
  return {_mm512_set1_epi32(static_cast<int>(x))};
}
FARMESH_SIMD F16 dot_pairs(U16 w, U16 x, F16 sum) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)w.v, (__m512bh)x.v)};
}
#endif
FARMESH_SIMD F16 low_bf16(U16 a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(a.v, 16))}; }
FARMESH_SIMD F16 high_bf16(U16 a) {
  return {
      _mm512_castsi512_ps(_mm512_and_si512(a.v, _mm512_set1_epi32(static_cast<int>(0xffff0000U))))};
}
FARMESH_SIMD F16 load(const std::uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
FARMESH_SIMD F16 load_part(const std::uint16_t* p, std::int64_t n) {
  const __m256i half = _mm256_maskz_loadu_epi16(first(n), p);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
FARMESH_SIMD F16 load(const std::int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
FARMESH_SIMD __m512i bf16_bits(F16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i top = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
  const __m512i quiet = _mm512_or_si512(top, _mm512_set1_epi32(0x40));
  return _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), rounded, quiet);
}
FARMESH_SIMD F16 round_bf16(F16 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bf16_bits(a), 16))};
}
FARMESH_SIMD void store_bf16_part(std::uint16_t* p, F16 a, std::int64_t n) {
  _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(bf16_bits(a)));
}

FARMESH_SIMD F16 max_bits(F16 a, F16 b) {
  return {
      _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
FARMESH_SIMD float fold_max_bits(F16 a) {
  const __m512i all = _mm512_castps_si512(a.v);
  const __m256i eight =
      _mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  const __m128i four =
      _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
  const __m128i one = _mm_max_epu32(two, _mm_shuffle_epi32(two, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtss_f32(_mm_castsi128_ps(one));
}
FARMESH_SIMD void store_low_bytes(std::uint8_t* p, F16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_castps_si512(a.v)));
}

struct I16 {
  __m512i v;
};
FARMESH_SIMD F16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }

struct Nibbles {
  __m512i v;
};
FARMESH_SIMD __m512i load_line(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
FARMESH_SIMD Nibbles low_nibbles(const std::uint8_t* p) {
  return {_mm512_and_si512(load_line(p), _mm512_set1_epi8(15))};
}
FARMESH_SIMD Nibbles high_nibbles(const std::uint8_t* p) {
  return {_mm512_and_si512(_mm512_srli_epi16(load_line(p), 4), _mm512_set1_epi8(15))};
}
FARMESH_SIMD I16 begin_nibbles(std::int32_t minus_inputs) {
  return {_mm512_slli_epi32(_mm512_set1_epi32(minus_inputs), 3)};
}

#ifdef __AVX512VNNI__

struct Bytes {
  __m512i v;
};
FARMESH_SIMD Bytes load_bytes(const std::uint8_t* p) { return {load_line(p)}; }
FARMESH_SIMD I16 begin_bytes(std::int32_t minus_inputs) {
  return {_mm512_slli_epi32(_mm512_set1_epi32(minus_inputs), 7)};
}
FARMESH_SIMD I16 dot(Bytes w, std::uint32_t x, I16 sum) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, _mm512_set1_epi32(static_cast<int>(x)))};
}
FARMESH_SIMD I16 dot(Nibbles w, std::uint32_t x, I16 sum) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, _mm512_set1_epi32(static_cast<int>(x)))};
}

#else

// Products of bytes are summed in pairs of 16 bits, saturating: 255 times 127 twice would not
// fit, so that weights go in as magnitudes and their signs move to the inputs.
struct Bytes {
  __m512i size;
  __mmask64 negative;
};
FARMESH_SIMD Bytes load_bytes(const std::uint8_t* p) {
  const __m512i w = _mm512_xor_si512(load_line(p), _mm512_set1_epi8(-128));
  return {_mm512_abs_epi8(w), _mm512_movepi8_mask(w)};
}
FARMESH_SIMD I16 begin_bytes(std::int32_t) {  // load_bytes() took the offset off
  return {_mm512_setzero_si512()};
}
FARMESH_SIMD I16 dot_unsigned(__m512i w, __m512i x, I16 sum) {
  const __m512i pairs = _mm512_maddubs_epi16(w, x);
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}
FARMESH_SIMD I16 dot(Bytes w, std::uint32_t x, I16 sum) {
  const __m512i inputs = _mm512_set1_epi32(static_cast<int>(x));
  const __m512i turned = _mm512_mask_sub_epi8(inputs, w.negative, _mm512_setzero_si512(), inputs);
  return dot_unsigned(w.size, turned, sum);
}
FARMESH_SIMD I16 dot(Nibbles w, std::uint32_t x, I16 sum) {
  return dot_unsigned(w.v, _mm512_set1_epi32(static_cast<int>(x)), sum);
}

#endif

FARMESH_SIMD float fold_add(F16 a) {
  const __m256 high = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FARMESH_SIMD float fold_max(F16 a) {
  const __m256 high = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v), high);
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
