// Philox 4x32-10: a counter-based random generator (Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011). No state: the same counter and key give the same words anywhere.
#pragma once

#include <array>
#include <cstdint>

namespace farmesh::sampling {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) noexcept;

}  // namespace farmesh::sampling
