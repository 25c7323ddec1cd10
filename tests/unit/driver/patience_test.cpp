#include "driver/patience.hpp"

#include <chrono>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::driver;
using namespace std::chrono_literals;

TEST_SUITE("driver/patience") {
  TEST_CASE("before anything was measured the first patience holds for every size") {
    const Patience patience({30s, 2s, 8});
    CHECK(patience.of(1) == 30s);
    CHECK(patience.of(4'096) == 30s);
  }

  TEST_CASE(
      "patience is a multiple of the slowest recent step of that size, never below the least") {
    Patience patience({30s, 2s, 8});
    patience.measured(1, 10ms);
    CHECK(patience.of(1) == 2s);
    patience.measured(1, 1s);
    CHECK(patience.of(1) == 8s);
  }

  TEST_CASE("a larger step bounds a smaller one that was not measured, not the other way round") {
    Patience patience({30s, 2s, 8});
    patience.measured(256, 1s);
    CHECK(patience.of(1) == 8s);
    CHECK(patience.of(511) == 8s);
    CHECK(patience.of(512) == 30s);
  }

  TEST_CASE("one slow step is forgotten over some tens of faster ones") {
    Patience patience({30s, 1ms, 8});
    patience.measured(1, 10s);
    for (int i = 0; i < 100; ++i) patience.measured(1, 10ms);
    CHECK(patience.of(1) > 80ms);
    CHECK(patience.of(1) < 90ms);
  }
}
