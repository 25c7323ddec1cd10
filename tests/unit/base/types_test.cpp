#include "base/types.hpp"

#include <doctest/doctest.h>

namespace farmesh {

TEST_SUITE("base/types") {
  TEST_CASE("a span counts its layers, and a reversed one has none") {
    CHECK(Span{0, 11}.size() == 11);
    CHECK(Span{4, 4}.empty());
    CHECK(Span{7, 3}.empty());
    CHECK(Span{7, 3}.size() == 0);
  }

  TEST_CASE("a span contains itself and what lies inside it, not what only overlaps") {
    const Span span{4, 8};
    CHECK(span.contains({4, 8}));
    CHECK(span.contains({5, 7}));
    CHECK_FALSE(span.contains({3, 5}));
    CHECK_FALSE(span.contains({7, 9}));
    CHECK_FALSE(span.contains({0, 12}));
  }

  TEST_CASE("every span contains an empty one") {
    CHECK(Span{4, 8}.contains({20, 20}));
    CHECK(Span{}.contains({}));
    CHECK_FALSE(Span{}.contains({0, 1}));
  }

  TEST_CASE("every dtype has a size and a name") {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i8, DType::u32}) {
      CHECK(bytes_of(dtype) > 0);
      CHECK(name(dtype) != "?");
    }
    CHECK(bytes_of(static_cast<DType>(9)) == 0);
    CHECK(name(static_cast<DType>(9)) == "?");
  }

  TEST_CASE("the residual stream is f32 only for f32 weights") {
    CHECK(residual_dtype(Precision::f32) == DType::f32);
    for (const Precision precision :
         {Precision::bf16, Precision::f16, Precision::int8, Precision::int4}) {
      CHECK(residual_dtype(precision) == DType::bf16);
      CHECK(name(precision) != "?");
    }
  }

  TEST_CASE("ids differ in hash when they differ in their first bytes") {
    SessionId first;
    SessionId second;
    second.bytes[7] = 1;
    CHECK(HashOfBytes{}(first) == HashOfBytes{}(SessionId{}));
    CHECK(HashOfBytes{}(first) != HashOfBytes{}(second));
    CHECK(first < second);
  }
}

}  // namespace farmesh
