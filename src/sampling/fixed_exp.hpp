// exp() with one sequence of operations, so that a sampled token does not depend on the machine's
// mathematical library or its processor. Within 2 ulp of the true value.
#pragma once

#include <bit>
#include <cstdint>

namespace farmesh::sampling {

/// e^x for x in (-708, 0] (below, results would be subnormal); 0 for any other argument, NaN and
/// infinities included. Without branches, so that a loop over it may become vector code.
inline double fixed_exp(double argument) noexcept {
  const bool in_range = argument > -708 && argument <= 0;
  const double x = in_range ? argument : 0;
  // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts keeps r exact (Cody and Waite). Adding
  // the magic number leaves n, rounded to nearest, in the low bits of the sum.
  constexpr double kMagic = 0x1.8p52;
  const double shifted = x * 0x1.71547652b82fep0 + kMagic;
  const double n = shifted - kMagic;
  const double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
  // Taylor's series of e^r to degree 13, the next term being below 5e-18, summed in pairs so that
  // the processor need not wait for one product after another.
  const double r2 = r * r;
  const double r4 = r2 * r2;
  const double terms_0 = (1.0 + r) + (1.0 / 2 + r * (1.0 / 6)) * r2;
  const double terms_4 = (1.0 / 24 + r * (1.0 / 120)) + (1.0 / 720 + r * (1.0 / 5040)) * r2;
  const double terms_8 =
      (1.0 / 40320 + r * (1.0 / 362880)) + (1.0 / 3628800 + r * (1.0 / 39916800)) * r2;
  const double terms_12 = 1.0 / 479001600 + r * (1.0 / 6227020800);
  const double sum = (terms_0 + terms_4 * r4) + (terms_8 + terms_12 * r4) * (r4 * r4);
  // The low bits of `shifted` are n in two's complement; 1023 is the exponent's bias.
  const std::uint64_t scale = (std::bit_cast<std::uint64_t>(shifted) + 1023) << 52;
  return (in_range ? sum : 0) * std::bit_cast<double>(scale);
}

}  // namespace farmesh::sampling
