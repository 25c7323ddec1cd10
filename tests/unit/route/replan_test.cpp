#include "route/replan.hpp"

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::route;
using namespace std::chrono_literals;

namespace {

PeerView peer(std::string address, Span span, Duration round_trip, Duration layer_time) {
  PeerView view;
  view.address = std::move(address);
  view.span = span;
  view.round_trip = round_trip;
  view.layer_time = layer_time;
  view.layer_samples = 100;
  return view;
}

}  // namespace

TEST_SUITE("route/replan") {
  TEST_CASE("a move pays when the tokens left save clearly more than it costs") {
    const ReplanPolicy policy;
    CHECK(pays({100ms, 50ms, 1s, 41}, policy));
    CHECK_FALSE(pays({100ms, 50ms, 1s, 40}, policy));  // twice the cost, not more
    CHECK_FALSE(pays({100ms, 50ms, 0ms, 0}, policy));
  }

  TEST_CASE("a small gain is noise, and no gain never pays, however many tokens are left") {
    const ReplanPolicy policy;
    CHECK_FALSE(pays({100ms, 90ms, 1ms, 1'000'000}, policy));
    CHECK(pays({100ms, 80ms, 1ms, 1'000'000}, policy));
    CHECK_FALSE(pays({100ms, 100ms, 0ms, 1'000'000}, policy));
    CHECK_FALSE(pays({100ms, 300ms, 0ms, 1'000'000}, policy));
    CHECK_FALSE(pays({0ms, 0ms, 0ms, 1'000'000}, policy));
  }

  TEST_CASE("of two routes, if moving there pays then moving back does not") {
    const ReplanPolicy policy;
    for (const auto a : {10ms, 50ms, 90ms, 100ms, 110ms}) {
      for (const auto b : {10ms, 50ms, 90ms, 100ms, 110ms}) {
        CHECK_FALSE((pays({a, b, 1ms, 1'000}, policy) && pays({b, a, 1ms, 1'000}, policy)));
      }
    }
  }

  TEST_CASE("a move costs the replay of the hops that change, by their speed and the positions") {
    const std::vector<PeerView> peers{peer("a", {0, 4}, 10ms, 2ms), peer("b", {4, 8}, 10ms, 2ms),
                                      peer("c", {4, 8}, 20ms, 1ms)};
    const Route from{{"a", {0, 4}}, {"b", {4, 8}}};
    const Route to{{"a", {0, 4}}, {"c", {4, 8}}};
    CHECK(expected_move(peers, from, from, 1'000, {}, {}) == 0ms);
    CHECK(expected_move(peers, from, to, 1'000, {}, {}) == 560ms);  // 60 + 4 * 1'000 / 8
    CHECK(expected_move(peers, from, to, 0, {}, {}) == 60ms);
    const Route shifted{{"a", {0, 3}}, {"c", {3, 8}}};
    CHECK(expected_move(peers, from, shifted, 0, {}, {}) == 90ms);  // "a" is opened again too
  }
}
