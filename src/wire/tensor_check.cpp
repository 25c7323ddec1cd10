#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "wire/messages.hpp"

namespace farmesh::wire {
namespace {

// A float is NaN or infinite when its exponent bits are all ones. Adding the lowest exponent bit
// to the masked exponent then carries into the sign bit, never into the neighbouring element:
// one addition checks all the elements of a word.
struct ExponentTest {
  std::uint64_t exponents = 0;
  std::uint64_t lowest = 0;
  std::uint64_t signs = 0;

  std::uint64_t carries(std::uint64_t word) const noexcept { return (word & exponents) + lowest; }
};

constexpr ExponentTest kF32{0x7f800000'7f800000, 0x00800000'00800000, 0x80000000'80000000};
constexpr ExponentTest kBf16{0x7f807f80'7f807f80, 0x00800080'00800080, 0x80008000'80008000};
constexpr ExponentTest kF16{0x7c007c00'7c007c00, 0x04000400'04000400, 0x80008000'80008000};

bool all_finite(ByteView values, const ExponentTest& test) noexcept {
  constexpr std::size_t kBlock = 4 * sizeof(std::uint64_t);
  std::uint64_t carried = 0;
  std::size_t at = 0;
  for (; at + kBlock <= values.size(); at += kBlock) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), values.data() + at, kBlock);
    for (const std::uint64_t word : words) carried |= test.carries(word);
  }
  for (; at < values.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;  // zero is finite, so a short tail needs no care
    std::memcpy(&word, values.data() + at, std::min(sizeof word, values.size() - at));
    carried |= test.carries(word);
  }
  return (carried & test.signs) == 0;
}

}  // namespace

Result<void> check_tensor(const Payload& payload, std::uint32_t rows, std::uint32_t columns,
                          DType dtype) {
  // 32 x 32 bits fit 64; two more for the element would not always, so divide instead.
  const std::size_t element = bytes_of(dtype);
  const std::uint64_t elements = std::uint64_t{rows} * columns;
  if (element != 0 && payload.size() % element == 0 && payload.size() / element == elements) {
    return {};
  }
  return {Errc::bad_shape, "payload of " + std::to_string(payload.size()) + " bytes is not " +
                               std::to_string(rows) + " x " + std::to_string(columns) + " of " +
                               std::string(name(dtype))};
}

Result<void> check_finite(ByteView values, DType dtype) {
  bool finite = true;
  switch (dtype) {
    case DType::f32: finite = all_finite(values, kF32); break;
    case DType::bf16: finite = all_finite(values, kBf16); break;
    case DType::f16: finite = all_finite(values, kF16); break;
    case DType::i8:
    case DType::u32: break;
  }
  if (finite) return {};
  return {Errc::bad_payload, "the payload holds a NaN or an infinity"};
}

}  // namespace farmesh::wire
