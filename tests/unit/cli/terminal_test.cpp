#include "cli/terminal.hpp"

#include <doctest/doctest.h>

namespace farmesh::cli {

TEST_SUITE("cli/terminal") {
  TEST_CASE("amounts are told in powers of a thousand") {
    CHECK(human_bytes(0) == "0 bytes");
    CHECK(human_bytes(999) == "999 bytes");
    CHECK(human_bytes(1'000) == "1.0 KB");
    CHECK(human_bytes(512'000) == "512 KB");
    CHECK(human_bytes(2'200'000'000) == "2.2 GB");
    CHECK(human_bytes(UINT64_MAX) == "18446744 TB");
  }

  TEST_CASE("the time left is what is left at the rate so far, where that can be told") {
    CHECK(time_left(1e6, 31'000'000) == "0:31");
    CHECK(time_left(1e6, 30'000'001) == "0:31");
    CHECK(time_left(1e6, 187'000'000) == "3:07");
    CHECK(time_left(1e6, 3'900'000'000) == "1:05 h");
    CHECK(time_left(1e6, 0) == "0:00");
    CHECK(time_left(0, 10).empty());
    CHECK(time_left(-1, 10).empty());
    CHECK(time_left(1, UINT64_MAX).empty());
  }
}

}  // namespace farmesh::cli
