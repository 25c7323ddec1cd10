// What a KV cache is kept in.
#pragma once

#include <cstdint>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

/// Of the keys and values of earlier tokens. int8 keeps scales beside them.
enum class KvFormat : std::uint8_t { f32 = 0, bf16 = 1, int8 = 2 };

constexpr std::string_view name(KvFormat format) noexcept {
  switch (format) {
    case KvFormat::f32: return "f32";
    case KvFormat::bf16: return "bf16";
    case KvFormat::int8: return "int8";
  }
  return "?";
}

}  // namespace farmesh::inline FARMESH_ABI
