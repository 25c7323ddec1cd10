// A TCP proxy that is a bad network: what passes, when, and that nothing is lost or reordered.
#include "net/rough_road.hpp"

#include "net/tcp_transport.hpp"
#include "unit/net/link_worlds.hpp"

namespace farmesh {
namespace {

using namespace std::chrono_literals;
using test::frame_of;

/// Two ends of a link with a rough road between them.
struct RoughWorld : test::TcpWorld {
  std::unique_ptr<net::RoughRoad> road;
  test::Received far;

  std::shared_ptr<net::Link> connect_over(net::RoughRoadOptions options) {
    transport = net::make_tcp_transport(context, *clock, test::some_key());
    auto listening = transport->listen(
        "127.0.0.1:0", [&](std::shared_ptr<net::Link> link) { accepted = std::move(link); });
    REQUIRE(listening);
    listener = std::move(*listening);
    options.to = listener->address();
    auto opened = net::RoughRoad::open(*clock, options);
    REQUIRE(opened);
    road = std::move(*opened);
    auto dialled = run(transport->dial(road->address(), clock->now() + 10s));
    REQUIRE_MESSAGE(dialled, dialled.error().to_string());
    until([&] { return accepted != nullptr; });
    far.listen_to(*accepted);
    return *dialled;
  }
};

}  // namespace

TEST_SUITE("net/rough_road") {
  TEST_CASE("what passes comes whole and in order, however it is delayed and lost") {
    RoughWorld world;
    net::RoughRoadOptions options;
    options.conditions = {1ms, 3ms, 50e6, 0.05};
    const auto link = world.connect_over(options);
    for (std::uint32_t i = 1; i <= 20; ++i) {
      REQUIRE(link->send(frame_of(wire::Verb::open, i, false, 20'000)));
    }
    world.until([&] { return world.far.frames.size() == 20; });
    for (std::uint32_t i = 0; i < 20; ++i) {
      CHECK(world.far.frames[i].stream == i + 1);
      CHECK(world.far.frames[i].payload.size() == 20'000);
    }
    CHECK(world.road->stats().bytes > 400'000);
    CHECK(world.road->stats().connections == 1);
  }

  TEST_CASE("a frame takes the latency, and what its bytes take at the rate") {
    RoughWorld world;
    net::RoughRoadOptions options;
    options.conditions = {30ms, 0ms, 1e6, 0};
    const auto link = world.connect_over(options);
    const TimePoint began = world.clock->now();
    REQUIRE(link->send(frame_of(wire::Verb::open, 1, false, 100'000)));
    world.until([&] { return !world.far.frames.empty(); });
    CHECK(world.clock->now() - began >= 130ms);
  }

  TEST_CASE("a cut is silent, and what was sent meanwhile comes when it is over") {
    RoughWorld world;
    const auto link = world.connect_over({});
    world.road->cut(true);
    REQUIRE(link->send(frame_of(wire::Verb::open, 1)));
    bool later = false;
    world.clock->call_at(world.clock->now() + 100ms, [&later] { later = true; });
    world.until([&] { return later; });
    CHECK(world.far.frames.empty());
    CHECK(world.far.closes.empty());
    world.road->cut(false);
    world.until([&] { return !world.far.frames.empty(); });
    CHECK(link->is_open());
  }

  TEST_CASE("the end of a connection, and of the proxy, is told") {
    RoughWorld world;
    const auto link = world.connect_over({});
    link->close({Errc::closed, "enough"});
    world.until([&] { return !world.far.closes.empty(); });

    RoughWorld other;
    const auto kept = other.connect_over({});
    other.road.reset();
    other.until([&] { return !other.far.closes.empty(); });
    CHECK(other.far.closes[0].code == Errc::connection_lost);
  }

  TEST_CASE("addresses that are none are refused") {
    test::TcpWorld world;
    for (const char* to : {"", "nonsense", "example.org:80", "127.0.0.1"}) {
      net::RoughRoadOptions options;
      options.to = to;
      CAPTURE(to);
      CHECK(net::RoughRoad::open(*world.clock, options).error().code == Errc::address_invalid);
    }
  }
}

}  // namespace farmesh
