// A read-mostly hash table from 64-bit keys to small values: open addressing, one allocation.
// BPE asks it a question for every pair of neighbours, so a miss must cost one cache line.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace farmesh::text {

template <class Value>
class FlatTable {
 public:
  /// No key may equal this one.
  static constexpr std::uint64_t kNoKey = ~std::uint64_t{0};

  /// Room for `expected` keys at half load.
  explicit FlatTable(std::size_t expected = 0)
      : slots_(std::bit_ceil(expected * 2 + 2)), mask_(slots_.size() - 1) {}

  /// The last value put under a key counts. At most `expected` different keys.
  void put(std::uint64_t key, Value value) {
    std::size_t at = home(key);
    while (slots_[at].key != key && slots_[at].key != kNoKey) at = (at + 1) & mask_;
    slots_[at] = {key, value};
  }

  const Value* find(std::uint64_t key) const noexcept {
    for (std::size_t at = home(key); slots_[at].key != kNoKey; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return &slots_[at].value;
    }
    return nullptr;
  }

 private:
  struct Slot {
    std::uint64_t key = kNoKey;
    Value value{};
  };

  std::size_t home(std::uint64_t key) const noexcept {
    key ^= key >> 32;
    key *= 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>(key >> 29) & mask_;
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace farmesh::text
