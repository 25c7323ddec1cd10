#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "wire/messages.hpp"

namespace farmesh::wire {
namespace {

Payload payload_of(std::size_t bytes) { return Payload(AlignedBuffer(bytes)); }

template <class Word>
ByteView view_of(const std::vector<Word>& words) {
  return std::as_bytes(std::span(words));
}

// Each of `bad` is found at every place of vectors of every length; each of `good` never is.
template <class Word>
void finds(DType dtype, const std::vector<Word>& good, const std::vector<Word>& bad) {
  for (std::size_t size = 0; size <= 40; ++size) {
    for (const Word value : good) {
      CHECK(check_finite(view_of(std::vector<Word>(size, value)), dtype));
    }
    for (std::size_t at = 0; at < size; ++at) {
      for (const Word value : bad) {
        std::vector<Word> words(size, good.back());
        words[at] = value;
        const Result<void> finite = check_finite(view_of(words), dtype);
        REQUIRE_FALSE(finite);
        CHECK(finite.error().code == Errc::bad_payload);
      }
    }
  }
}

}  // namespace

TEST_SUITE("wire/tensor_check") {
  TEST_CASE("a payload of the stated rows, columns and dtype passes") {
    CHECK(check_tensor(payload_of(24), 2, 3, DType::f32));
    CHECK(check_tensor(payload_of(12), 2, 3, DType::bf16));
    CHECK(check_tensor(payload_of(12), 2, 3, DType::f16));
    CHECK(check_tensor(payload_of(6), 2, 3, DType::i8));
    CHECK(check_tensor(payload_of(24), 2, 3, DType::u32));
    CHECK(check_tensor(Payload(), 0, 4096, DType::bf16));
  }

  TEST_CASE("any other size is bad_shape") {
    for (const std::size_t bytes : {0u, 1u, 11u, 13u, 24u}) {
      CAPTURE(bytes);
      const Result<void> checked = check_tensor(payload_of(bytes), 2, 3, DType::bf16);
      REQUIRE_FALSE(checked);
      CHECK(checked.error().code == Errc::bad_shape);
    }
    CHECK_FALSE(check_tensor(payload_of(12), 2, 3, static_cast<DType>(9)));
  }

  TEST_CASE("rows and columns whose product wraps are bad_shape") {
    // 2^31 * 2^31 * 4 is 0 in 64 bits.
    CHECK_FALSE(check_tensor(Payload(), 1u << 31, 1u << 31, DType::f32));
    CHECK_FALSE(check_tensor(payload_of(4), 0xffffffff, 0xffffffff, DType::f32));
  }

  TEST_CASE("NaN and infinity are found wherever they are, and nothing else is") {
    finds<std::uint32_t>(
        DType::f32, {0, 0x80000000, 0x7f7fffff, 0xff7fffff, 0x00000001, 0x807fffff, 0x3f800000},
        {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff});
    finds<std::uint16_t>(DType::bf16, {0, 0x8000, 0x7f7f, 0xff7f, 0x0001, 0x807f, 0x3f80},
                         {0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff});
    finds<std::uint16_t>(DType::f16, {0, 0x8000, 0x7bff, 0xfbff, 0x0001, 0x83ff, 0x3c00},
                         {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff});
  }

  TEST_CASE("integers are always finite") {
    const std::vector<std::uint8_t> bytes(16, 0xff);
    CHECK(check_finite(view_of(bytes), DType::i8));
    CHECK(check_finite(view_of(bytes), DType::u32));
  }
}

}  // namespace farmesh::wire
