// How long a session waits for a step before it asks its hops whether they live: a multiple of
// what steps of that size took lately, never one constant for all.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/types.hpp"

namespace farmesh::driver {

struct PatienceOptions {
  Duration first{};  // before anything comparable was measured
  Duration least{};  // never below, once measured
  double factor = 1;
};

class Patience {
 public:
  explicit Patience(const PatienceOptions& options) : options_(options) {}

  /// A step of `rows` rows took `time`.
  void measured(std::uint32_t rows, Duration time) noexcept;

  /// For a step of `rows` rows. What larger steps took bounds smaller ones from above.
  Duration of(std::uint32_t rows) const noexcept;
  /// The slowest recent step that bounds one of `rows` rows; zero: none was measured.
  Duration slowest(std::uint32_t rows) const noexcept;

 private:
  static constexpr std::size_t kSizes = 16;
  static std::size_t size_of(std::uint32_t rows) noexcept;

  PatienceOptions options_;
  std::array<Duration, kSizes> slowest_{};  // by bit width of the rows; decays; zero: none yet
};

}  // namespace farmesh::driver
