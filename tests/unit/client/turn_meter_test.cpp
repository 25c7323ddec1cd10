#include "client/turn_meter.hpp"

#include <chrono>

#include <doctest/doctest.h>

namespace farmesh::client {
namespace {

using std::chrono::milliseconds;

wire::TokenMessage message(std::vector<wire::Hop> route, std::vector<wire::HopTime> times) {
  wire::TokenMessage token;
  token.route = std::move(route);
  token.times = std::move(times);
  return token;
}

}  // namespace

TEST_SUITE("client/turn_meter") {
  TEST_CASE("speed is that of the tokens after the first") {
    const TimePoint began{};
    TurnMeter meter(began, 5);
    meter.record(message({}, {}), began + milliseconds(100));
    CHECK(meter.usage().tokens_per_second == 0);
    meter.record(message({}, {}), began + milliseconds(110));
    meter.record(message({}, {}), began + milliseconds(120));
    meter.finish(FinishReason::length, 1);

    const Usage usage = meter.usage();
    CHECK(usage.prompt_tokens == 5);
    CHECK(usage.tokens == 3);
    CHECK(usage.ttft_ms == doctest::Approx(100));
    CHECK(usage.tokens_per_second == doctest::Approx(100));
    CHECK(usage.finish == FinishReason::length);
    CHECK(usage.recoveries == 1);
  }

  TEST_CASE("the prompt was computed by whom it was told, else by the route of the first token") {
    TurnMeter told({}, 9);
    told.prompt_made({{2, {{"x", {0, 4}, 0}}}, {3, {{"a", {0, 4}, 0}}}});
    told.record(message({{"a", {0, 4}}}, {}), {});
    REQUIRE(told.usage().prompt_routes.size() == 2);
    CHECK(told.usage().prompt_routes[1].tokens == 3);

    TurnMeter untold({}, 9);
    CHECK(untold.usage().prompt_routes.empty());
    untold.record(message({{"a", {0, 4}}}, {}), {});
    untold.record(message({{"b", {0, 4}}}, {}), {});
    REQUIRE(untold.usage().prompt_routes.size() == 1);
    CHECK(untold.usage().prompt_routes[0].tokens == 9);
    CHECK(untold.usage().prompt_routes[0].hops[0].peer == "a");

    TurnMeter cached({}, 9);
    cached.prompt_made({});
    cached.record(message({{"a", {0, 4}}}, {}), {});
    CHECK(cached.usage().prompt_routes.empty());
  }

  TEST_CASE("a hop's time is a mean over tokens, the prompt's own left out") {
    TurnMeter meter({}, 1);
    meter.record(message({{"a", {0, 2}}, {"b", {2, 4}}}, {{0, 90'000, 8}, {0, 80'000, 8}}), {});
    CHECK(meter.usage().hops[0].ms == doctest::Approx(90));
    meter.record(message({}, {{500, 1'500, 1}, {0, 1'000, 1}}), {});
    meter.record(message({}, {{0, 4'000, 1}, {0, 1'000, 1}}), {});

    const Usage usage = meter.usage();
    REQUIRE(usage.hops.size() == 2);
    CHECK(usage.hops[0].peer == "a");
    CHECK(usage.hops[0].span == Span{0, 2});
    CHECK(usage.hops[0].ms == doctest::Approx(3));
    CHECK(usage.hops[1].ms == doctest::Approx(1));
  }

  TEST_CASE("after a change of route the hops that stayed keep their mean") {
    TurnMeter meter({}, 1);
    meter.record(message({{"a", {0, 2}}, {"b", {2, 4}}}, {{0, 1'000, 1}, {0, 1'000, 1}}), {});
    meter.record(message({}, {{0, 1'000, 1}, {0, 1'000, 1}}), {});
    meter.record(message({{"a", {0, 2}}, {"c", {2, 4}}}, {{0, 3'000, 1}, {0, 9'000, 1}}), {});

    const Usage usage = meter.usage();
    REQUIRE(usage.hops.size() == 2);
    CHECK(usage.hops[0].ms == doctest::Approx(2));
    CHECK(usage.hops[1].peer == "c");
    CHECK(usage.hops[1].ms == doctest::Approx(9));
  }

  TEST_CASE("each token counts for the route that made it; a route told again is the same one") {
    TurnMeter meter({}, 1);
    meter.record(message({{"a", {0, 2}}, {"b", {2, 4}}}, {}), {});
    meter.record(message({}, {}), {});
    meter.record(message({{"a", {0, 2}}, {"b", {2, 4}}}, {}), {});
    meter.record(message({{"a", {0, 2}}, {"c", {2, 4}}}, {}), {});

    const std::vector<RouteUsage> routes = meter.usage().routes;
    REQUIRE(routes.size() == 2);
    CHECK(routes[0].tokens == 3);
    CHECK(routes[0].hops[1].peer == "b");
    CHECK(routes[1].tokens == 1);
    CHECK(routes[1].hops[1].peer == "c");
    CHECK(routes[1].hops[1].span == Span{2, 4});
  }

  TEST_CASE("times without a known route are ignored") {
    TurnMeter meter({}, 1);
    meter.record(message({}, {{0, 1'000, 1}}), {});
    CHECK(meter.usage().hops.empty());
  }
}

}  // namespace farmesh::client
