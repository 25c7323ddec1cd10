// The small words every room shares: those of the public header, ids, time.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <farmesh/types.hpp>

namespace farmesh {

using TimePoint = std::chrono::steady_clock::time_point;  // monotonic; virtual in simulations
using Duration = std::chrono::steady_clock::duration;

/// The residual stream's dtype: f32 for f32, else bf16, rounded after every block, so that
/// where a model is split cannot change a bit.
constexpr DType residual_dtype(Precision precision) noexcept {
  return precision == Precision::f32 ? DType::f32 : DType::bf16;
}

/// 128 unguessable bits, chosen by the driver; knowing it is what lets a peer push into a session.
struct SessionId {
  std::array<std::uint8_t, 16> bytes{};
  friend constexpr auto operator<=>(const SessionId&, const SessionId&) = default;
};

/// SHA-256 of the model's BitTorrent v2 file tree: equal ids mean equal config, tokenizer, weights.
struct ModelHash {
  std::array<std::uint8_t, 32> bytes{};
  friend constexpr auto operator<=>(const ModelHash&, const ModelHash&) = default;
};

/// Keyed hash of a token prefix: the name of the KV page that ends that prefix.
struct PageName {
  std::array<std::uint8_t, 16> bytes{};
  friend constexpr auto operator<=>(const PageName&, const PageName&) = default;
};

/// Names are uniformly distributed, so any eight of their bytes are a hash already.
struct HashOfBytes {
  template <class Id>
  std::size_t operator()(const Id& id) const noexcept {
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word = word << 8 | id.bytes[static_cast<std::size_t>(i)];
    return static_cast<std::size_t>(word);
  }
};

}  // namespace farmesh
