// What hidden states travel in between processes.
#pragma once

#include <cstdint>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

/// residual: as they are computed, exact. int8: about half of bf16's bytes, and rounded wherever
/// the layers are cut, so that a result depends on where that is. Numbers are part of the wire
/// protocol.
enum class Activations : std::uint8_t { residual = 0, int8 = 1 };

constexpr std::string_view name(Activations activations) noexcept {
  switch (activations) {
    case Activations::residual: return "residual";
    case Activations::int8: return "int8";
  }
  return "?";
}

}  // namespace farmesh::inline FARMESH_ABI
