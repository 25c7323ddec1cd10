// Sixteen lanes in one 512-bit register. See simd_portable.hpp for the meaning of each function.
#pragma once

#include <cstdint>

#include <immintrin.h>

namespace farmesh::kernels {
namespace {

#define FARMESH_SIMD [[gnu::always_inline]] inline

constexpr int kTileRows = 12;  // 2 panels x 12 rows: 24 of 32 registers accumulate
constexpr int kTilePanels = 2;

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

FARMESH_SIMD U16 load_pairs(const std::uint32_t* p) { return {_mm512_loadu_si512(p)}; }
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
