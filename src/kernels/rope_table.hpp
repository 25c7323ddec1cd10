// Rotary angles as cosines and sines, computed in double and kept in f32, position by position.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace farmesh::kernels {

/// The cosines and sines of one position.
struct RopeRow {
  const float* cos = nullptr;  // [pairs]
  const float* sin = nullptr;  // [pairs]
};

/// Grows in blocks as positions are asked for; rows keep their address. One thread at a time.
class RopeTable {
 public:
  /// `frequencies` writes the angle per position of each pair, for tokens at `position`.
  using Frequencies = std::function<void(std::uint64_t position, std::vector<double>& out)>;

  /// Every cosine and sine is multiplied by `magnitude`.
  RopeTable(std::int64_t pairs, double magnitude, Frequencies frequencies);

  /// Makes rows [0, positions) available.
  void reserve(std::uint64_t positions);
  RopeRow row(std::uint64_t position) const noexcept;

 private:
  static constexpr std::uint64_t kBlock = 256;

  std::int64_t pairs_;
  double magnitude_;
  Frequencies frequencies_;
  std::vector<std::unique_ptr<float[]>> blocks_;  // [kBlock][2][pairs]
};

}  // namespace farmesh::kernels
