// What this machine's memory and arithmetic give at most, for benchmarks to stand beside.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <farmesh/types.hpp>

namespace farmesh::model {

/// Reads memory far larger than any cache, each thread its own part in four streams, as a product
/// reads four panels. Holds 1 GiB.
class BandwidthProbe {
 public:
  /// Throws std::bad_alloc.
  explicit BandwidthProbe(int threads);
  BandwidthProbe(const BandwidthProbe&) = delete;
  BandwidthProbe& operator=(const BandwidthProbe&) = delete;
  ~BandwidthProbe();

  /// Bytes a second.
  double measure();

 private:
  void read(int part);

  int threads_;
  std::byte* memory_;  // on a huge-page boundary
  std::atomic<std::uint64_t> sink_{0};
};

struct ArithmeticLimit {
  const char* name = "";
  double rate = 0.0;  // operations a second
};

/// Multiplications and additions a second, each counted, of all threads together, in registers
/// and independent of each other.
struct ArithmeticRates {
  double f32 = 0.0;   // fused multiply-adds of f32
  double bf16 = 0.0;  // dots of bf16 into f32; 0 where the CPU has no such instruction
  double i8 = 0.0;    // dots of bytes into 32 bits; 0 where it has none

  /// What bounds a product of these weights.
  ArithmeticLimit limit_of(Precision precision) const noexcept;
};
ArithmeticRates measure_arithmetic(int threads);

}  // namespace farmesh::model
