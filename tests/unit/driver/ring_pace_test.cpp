// How many groups of sessions fill a chain.

#include "driver/ring_pace.hpp"

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::driver;
using namespace std::chrono_literals;

TEST_SUITE("driver/ring_pace") {
  TEST_CASE("as many groups fill a chain as passes of its slowest stage fit into a trip") {
    RingPace even;
    RingPace uneven;
    CHECK(even.groups() == 0);
    for (int i = 0; i < 8; ++i) {
      even.measured(21ms, {{0, 5'000, 1}, {0, 5'000, 1}, {0, 5'000, 1}, {0, 5'000, 1}});
      uneven.measured(30ms, {{0, 5'000, 1}, {0, 15'000, 1}, {0, 5'000, 1}});
    }
    CHECK(even.groups() == 4);
    CHECK(uneven.groups() == 2);
  }

  TEST_CASE("time spent in queues makes no room for more groups") {
    RingPace pace;
    for (int i = 0; i < 8; ++i) {
      pace.measured(
          61ms, {{10'000, 5'000, 1}, {10'000, 5'000, 1}, {10'000, 5'000, 1}, {10'000, 5'000, 1}});
    }
    CHECK(pace.groups() == 4);
  }

  TEST_CASE("what stages tell is not trusted: the number stays within its bounds") {
    RingPace lazy;
    RingPace liar;
    for (int i = 0; i < 8; ++i) {
      lazy.measured(60s, {{0, 1, 1}});
      liar.measured(1ms, {{4'000'000'000, 4'000'000'000, 1}});
    }
    CHECK(lazy.groups() == wire::kMaxGroups);
    CHECK(liar.groups() == 1);
    RingPace silent;
    for (int i = 0; i < 8; ++i) silent.measured(1ms, {});
    CHECK(silent.groups() == 0);
  }
}
