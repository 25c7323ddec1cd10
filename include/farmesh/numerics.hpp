// How sums are made: what decides, with precision and KV format, the bits of every result.
#pragma once

#include <cstdint>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

enum class Numerics : std::uint8_t {
  exact = 0,  // our kernels on a CPU, one order of summation however rows are batched and threaded
  fast = 1,   // libtorch's own products on a CPU, of f32 and bf16 weights; order not promised
  fused = 2,  // libtorch's fused functions, activations in the weights' dtype; order not promised.
              // All that a GPU has; on a CPU it shows that they compute what the others do.
};

constexpr std::string_view name(Numerics numerics) noexcept {
  switch (numerics) {
    case Numerics::exact: return "exact";
    case Numerics::fast: return "fast";
    case Numerics::fused: return "fused";
  }
  return "?";
}

}  // namespace farmesh::inline FARMESH_ABI
