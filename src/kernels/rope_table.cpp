#include "kernels/rope_table.hpp"

#include <cmath>
#include <utility>

namespace farmesh::kernels {
namespace {

struct SinCos {
  double sin, cos;
};

/// Within 2e-16, for 0 <= angle < 2^28, from additions and products alone: a libm's last bit
/// differs between systems, and two peers on different systems must agree.
SinCos sin_cos(double angle) {
  // pi/2 in three parts of 25 bits, so that the first two products below are exact.
  constexpr double kPart1 = 0x1.921fb5p+0, kPart2 = 0x1.110b46p-26, kPart3 = 0x1.1a62633145c07p-54;
  const double turns = std::floor(angle * 0x1.45f306dc9c883p-1 + 0.5);
  const double x = angle - turns * kPart1 - turns * kPart2 - turns * kPart3;
  const double s = x * x;
  // Taylor, to s^8: the first term left out is below 1e-17 for |x| <= pi/4.
  double sine = 0.0;
  double cosine = 0.0;
  for (int n = 8; n >= 1; --n) {
    sine = (sine + 1.0) * -s / (2.0 * n * (2.0 * n + 1.0));
    cosine = (cosine + 1.0) * -s / (2.0 * n * (2.0 * n - 1.0));
  }
  sine = x + x * sine;
  cosine = 1.0 + cosine;
  switch (static_cast<std::uint64_t>(turns) % 4) {
    case 0: return {sine, cosine};
    case 1: return {cosine, -sine};
    case 2: return {-sine, -cosine};
    default: return {-cosine, sine};
  }
}

}  // namespace

RopeTable::RopeTable(std::int64_t pairs, double magnitude, Frequencies frequencies)
    : pairs_(pairs), magnitude_(magnitude), frequencies_(std::move(frequencies)) {}

void RopeTable::reserve(std::uint64_t positions) {
  std::vector<double> angles(static_cast<std::size_t>(pairs_));
  while (blocks_.size() * kBlock < positions) {
    const std::uint64_t first = blocks_.size() * kBlock;
    auto block = std::make_unique<float[]>(kBlock * 2 * static_cast<std::size_t>(pairs_));
    float* out = block.get();
    for (std::uint64_t position = first; position < first + kBlock; ++position) {
      frequencies_(position, angles);
      for (std::int64_t i = 0; i < pairs_; ++i) {
        // As f32 the frequency is what the model was trained with, and one bit of std::pow
        // cannot grow with the position.
        const auto frequency = static_cast<float>(angles[static_cast<std::size_t>(i)]);
        const SinCos at = sin_cos(static_cast<double>(position) * static_cast<double>(frequency));
        out[i] = static_cast<float>(at.cos * magnitude_);
        out[pairs_ + i] = static_cast<float>(at.sin * magnitude_);
      }
      out += 2 * pairs_;
    }
    blocks_.push_back(std::move(block));
  }
}

RopeRow RopeTable::row(std::uint64_t position) const noexcept {
  const float* at =
      blocks_[position / kBlock].get() + static_cast<std::int64_t>(position % kBlock) * 2 * pairs_;
  return {at, at + pairs_};
}

}  // namespace farmesh::kernels
