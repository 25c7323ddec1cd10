// Random inputs and the instruction sets of this machine.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/isa.hpp"
#include "kernels/kernel_table.hpp"

namespace farmesh::kernels::test {

inline std::vector<Isa> usable_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kIsas) {
    if (usable(isa)) isas.push_back(isa);
  }
  return isas;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  std::vector<float> floats(std::int64_t count, float spread = 1.0F) {
    std::normal_distribution<float> normal(0.0F, spread);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(engine_);
    return values;
  }

  std::int64_t below(std::int64_t limit) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(limit));
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace farmesh::kernels::test
