#include "weights/content_range.hpp"

#include <string>

#include <doctest/doctest.h>

namespace farmesh::weights {

TEST_SUITE("weights/content_range") {
  TEST_CASE("a range of bytes within its length is read") {
    const auto range = parse_content_range("bytes 7-99/1000");
    REQUIRE(range);
    CHECK(range->begin == 7);
    CHECK(range->end == 100);
    CHECK(range->length == 1000);
    CHECK(parse_content_range("bytes 0-0/1"));
  }

  TEST_CASE("what is no such range is refused") {
    for (const char* text :
         {"", "bytes", "bytes ", "bytes */1000", "bytes 0-9/*", "bytes 9-7/1000",
          "bytes 0-1000/1000", "bytes -1-3/9", "bytes 0-3/9 ", "bytes 0-3", "bytes 0-3/",
          "bytes 0- 3/9", "items 0-3/9", "bytes 0-3/18446744073709551616", "bytes 0x1-3/9"}) {
      INFO(text);
      CHECK_FALSE(parse_content_range(text));
    }
  }
}

}  // namespace farmesh::weights
