// How much of a request is read at all.
#pragma once

#include <cstddef>

namespace farmesh::gateway {

inline constexpr std::size_t kMaxBodyBytes = std::size_t(4) << 20;
inline constexpr int kMaxBodyDepth = 16;
inline constexpr std::size_t kMaxBodyValues = 100'000;  // a value is 16 bytes and more in memory

}  // namespace farmesh::gateway
