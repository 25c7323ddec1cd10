#include "driver/patience.hpp"

#include <algorithm>
#include <bit>

namespace farmesh::driver {

std::size_t Patience::size_of(std::uint32_t rows) noexcept {
  return std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(rows)), kSizes - 1);
}

void Patience::measured(std::uint32_t rows, Duration time) noexcept {
  Duration& slowest = slowest_[size_of(rows)];
  // A slow step is remembered at once and forgotten over about ten faster ones.
  slowest = time > slowest ? time : slowest + (time - slowest) / 10;
}

Duration Patience::slowest(std::uint32_t rows) const noexcept {
  for (std::size_t size = size_of(rows); size < kSizes; ++size) {
    if (slowest_[size] > Duration::zero()) return slowest_[size];
  }
  return {};
}

Duration Patience::of(std::uint32_t rows) const noexcept {
  const Duration known = slowest(rows);
  if (known == Duration::zero()) return options_.first;
  const auto scaled = std::chrono::duration<double, Duration::period>(known) * options_.factor;
  return std::max(options_.least, std::chrono::duration_cast<Duration>(scaled));
}

}  // namespace farmesh::driver
