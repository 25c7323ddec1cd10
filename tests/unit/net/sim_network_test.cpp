#include <string>
#include <vector>

#include "net/sim_transport.hpp"
#include "unit/net/link_worlds.hpp"

namespace farmesh {
namespace {

using namespace std::chrono_literals;
using test::frame_of;
using test::Loop;
using test::Received;
using wire::Frame;
using wire::Verb;

// Hosts a and b, b listening.
struct Net {
  Loop loop;
  net::SimNetwork network;
  std::unique_ptr<net::Transport> a;
  std::unique_ptr<net::Transport> b;
  std::unique_ptr<net::Listener> listener;
  std::shared_ptr<net::Link> at_a;
  std::shared_ptr<net::Link> at_b;
  Received a_heard;
  Received b_heard;

  explicit Net(net::SimConditions conditions = {.latency = 10ms}, std::uint64_t seed = 1)
      : network(loop.clock, conditions, seed), a(network.host("a")), b(network.host("b")) {
    listener = *b->listen("b:1", [this](std::shared_ptr<net::Link> link) { at_b = link; });
  }

  Result<std::shared_ptr<net::Link>> dial(Duration timeout = 1s) {
    return loop.run(a->dial("b:1", loop.after(timeout)));
  }

  void connect() {
    auto link = dial();
    REQUIRE(link);
    at_a = *link;
    a_heard.listen_to(*at_a);
    b_heard.listen_to(*at_b);
  }
};

// When each of ten frames arrived, for a seed.
std::vector<TimePoint> arrivals(std::uint64_t seed) {
  Net net({.latency = 10ms, .jitter = 50ms}, seed);
  net.connect();
  std::vector<TimePoint> times;
  for (std::uint32_t i = 1; i <= 10; ++i) {
    REQUIRE(net.at_a->send(frame_of(Verb::step, i)));
    net.loop.pass(3ms);
    while (times.size() < net.b_heard.frames.size()) times.push_back(net.loop.clock.now());
  }
  while (times.size() < 10) {
    net.loop.until([&] { return net.b_heard.frames.size() > times.size(); });
    times.push_back(net.loop.clock.now());
  }
  return times;
}

}  // namespace

TEST_SUITE("net/sim_network") {
  TEST_CASE("a dial takes a round trip, a frame one latency") {
    Net net;
    net.connect();
    CHECK(net.loop.clock.now() == TimePoint{} + 20ms);
    CHECK(net.at_a->remote_address() == "b:1");
    CHECK(net.at_b->remote_address().starts_with("a:"));
    REQUIRE(net.at_a->send(frame_of(Verb::step)));
    net.loop.until([&] { return !net.b_heard.frames.empty(); });
    CHECK(net.loop.clock.now() == TimePoint{} + 30ms);
    CHECK(net.network.delivered_frames() == 1);
    CHECK(net.network.delivered_bytes() == wire::kPrefixBytes);
  }

  TEST_CASE("bandwidth makes frames queue behind each other, a direction at a time") {
    Net net({.latency = 10ms, .bytes_per_second = 1'000'000});
    net.connect();
    const TimePoint start = net.loop.clock.now();
    for (int i = 0; i < 2; ++i) {
      REQUIRE(net.at_a->send(frame_of(Verb::step, 1, false, 100'000 - wire::kPrefixBytes)));
    }
    REQUIRE(net.at_b->send(frame_of(Verb::step)));
    net.loop.until([&] { return net.a_heard.frames.size() == 1; });
    CHECK(net.loop.clock.now() - start < 11ms);
    net.loop.until([&] { return net.b_heard.frames.size() == 1; });
    CHECK(net.loop.clock.now() - start == 110ms);
    net.loop.until([&] { return net.b_heard.frames.size() == 2; });
    CHECK(net.loop.clock.now() - start == 210ms);
  }

  TEST_CASE("the same seed gives the same times, another seed others") {
    CHECK(arrivals(5) == arrivals(5));
    CHECK(arrivals(5) != arrivals(6));
  }

  TEST_CASE("a kill ends the host's links at once and tells the remotes a latency later") {
    Net net;
    net.connect();
    const TimePoint killed = net.loop.clock.now();
    net.network.kill("b");
    CHECK_FALSE(net.at_b->is_open());
    CHECK(net.at_b->send(frame_of(Verb::step)).error().code == Errc::connection_lost);
    net.loop.until([&] { return !net.b_heard.closes.empty(); });
    CHECK(net.loop.clock.now() == killed);
    net.loop.until([&] { return !net.a_heard.closes.empty(); });
    CHECK(net.loop.clock.now() == killed + 10ms);
    CHECK(net.a_heard.closes[0].code == Errc::connection_lost);
  }

  TEST_CASE("frames that had left before the kill arrive, frames to the dead vanish") {
    Net net;
    net.connect();
    REQUIRE(net.at_b->send(frame_of(Verb::step, 1)));
    REQUIRE(net.at_a->send(frame_of(Verb::step, 2)));
    net.network.kill("b");
    net.loop.pass(1s);
    CHECK(net.a_heard.frames.size() == 1);
    CHECK(net.a_heard.closes.size() == 1);
    CHECK(net.b_heard.frames.empty());
  }

  TEST_CASE("what still waited for bandwidth dies with the host") {
    Net net({.latency = 10ms, .bytes_per_second = 1'000});
    net.connect();
    for (std::uint32_t i = 0; i < 10; ++i) {
      REQUIRE(net.at_b->send(frame_of(Verb::step, i, false, 100 - wire::kPrefixBytes)));
    }
    net.loop.pass(250ms);  // two of ten have left
    net.network.kill("b");
    net.loop.until([&] { return !net.a_heard.closes.empty(); });
    CHECK(net.a_heard.frames.size() == 2);
    net.loop.pass(5s);
    CHECK(net.a_heard.frames.size() == 2);
  }

  TEST_CASE("a dead host refuses dials and makes none until it is revived") {
    Net net;
    net.network.kill("b");
    CHECK(net.dial().error().code == Errc::connection_refused);
    CHECK(net.loop.run(net.b->dial("b:1", net.loop.after(1s))).error().code == Errc::io_error);
    CHECK(net.b->listen("b:2", {}).error().code == Errc::io_error);
    net.network.revive("b");
    net.connect();
    CHECK(net.at_a->is_open());
  }

  TEST_CASE("a host that dies while it dials gets no link") {
    Net net;
    std::optional<Errc> outcome;
    const auto dial = [](net::Task<Result<std::shared_ptr<net::Link>>> task,
                         std::optional<Errc>& out) -> net::Task<void> {
      const Result<std::shared_ptr<net::Link>> link = co_await std::move(task);
      out = link ? Errc::ok : link.error().code;
    };
    net::spawn(net.loop.clock.executor(), "dial",
               dial(net.a->dial("b:1", net.loop.after(1s)), outcome));
    net.loop.until([&] { return net.at_b != nullptr; });
    net.b_heard.listen_to(*net.at_b);
    net.network.kill("a");
    net.loop.until([&] { return outcome && !net.b_heard.closes.empty(); });
    CHECK(*outcome == Errc::connection_lost);
  }

  TEST_CASE("a partition is silent, and what was sent meanwhile arrives when it ends") {
    Net net;
    net.connect();
    net.network.partition("a", "b", true);
    for (std::uint32_t i = 1; i <= 3; ++i) REQUIRE(net.at_a->send(frame_of(Verb::step, i)));
    net.loop.pass(1h);
    CHECK(net.b_heard.frames.empty());
    CHECK(net.b_heard.closes.empty());
    CHECK(net.at_a->is_open());
    const TimePoint before = net.loop.clock.now();
    CHECK(net.dial(5s).error().code == Errc::timeout);
    CHECK(net.loop.clock.now() == before + 5s);

    net.network.partition("b", "a", false);
    net.loop.pass(1ms);
    REQUIRE(net.b_heard.frames.size() == 3);
    for (std::uint32_t i = 0; i < 3; ++i) CHECK(net.b_heard.frames[i].stream == i + 1);
    CHECK(net.dial());
  }

  TEST_CASE("a close inside a partition is told when it ends") {
    Net net;
    net.connect();
    net.network.partition("a", "b", true);
    net.at_a->close({Errc::closed, ""});
    net.loop.pass(1min);
    CHECK(net.b_heard.closes.empty());
    net.network.partition("a", "b", false);
    net.loop.pass(1ms);
    CHECK(net.b_heard.closes.size() == 1);
  }

  TEST_CASE("one pair of hosts can be farther apart than the others") {
    Net net;
    net.network.set_latency("b", "a", 200ms);
    net.connect();
    CHECK(net.loop.clock.now() == TimePoint{} + 400ms);
  }

  TEST_CASE("a test sees each frame as it is sent, and may kill a host at that moment") {
    Net net;
    net.connect();
    std::vector<std::string> seen;
    net.network.on_frame([&](const std::string& from, const std::string& to, const Frame& frame) {
      seen.push_back(from + ">" + to + " " + std::to_string(frame.stream));
      if (frame.stream == 2) net.network.kill("b");
      if (frame.stream == 3) net.network.kill("a");
    });
    CHECK(net.at_a->send(frame_of(Verb::step, 1)));
    CHECK(net.at_a->send(frame_of(Verb::step, 2)));
    CHECK_FALSE(net.at_a->send(frame_of(Verb::step, 3)));
    CHECK(seen == std::vector<std::string>{"a>b 1", "a>b 2", "a>b 3"});
    net.loop.pass(1s);
    CHECK(net.b_heard.frames.empty());
  }

  TEST_CASE("a dial that nobody answers in time leaves no link behind") {
    Net net;
    CHECK(net.dial(15ms).error().code == Errc::timeout);  // accepted at 10 ms, known at 20
    CHECK(net.loop.clock.now() == TimePoint{} + 15ms);
    REQUIRE(net.at_b);
    net.b_heard.listen_to(*net.at_b);
    net.loop.until([&] { return !net.b_heard.closes.empty(); });
  }

  TEST_CASE("addresses that are none, taken, or of another host are refused") {
    Net net;
    CHECK(net.loop.run(net.a->dial("b", net.loop.after(1s))).error().code == Errc::address_invalid);
    CHECK(net.loop.run(net.a->dial("c:1", net.loop.after(1s))).error().code ==
          Errc::connection_refused);
    CHECK(net.a->listen("b:2", {}).error().code == Errc::address_invalid);
    CHECK(net.b->listen("b:1", {}).error().code == Errc::io_error);
    const auto any = net.b->listen("b:0", {});
    REQUIRE(any);
    CHECK((*any)->address() != "b:0");
    net.listener.reset();
    CHECK(net.dial().error().code == Errc::connection_refused);
  }

  TEST_CASE("links that outlive their network do nothing") {
    Loop loop;
    auto network = std::make_unique<net::SimNetwork>(loop.clock, net::SimConditions{}, 1);
    auto host = network->host("a");
    std::shared_ptr<net::Link> accepted;
    auto listener = *host->listen("a:1", [&](std::shared_ptr<net::Link> link) { accepted = link; });
    auto link = loop.run(host->dial("a:1", loop.after(1s)));
    REQUIRE(link);
    network.reset();
    CHECK((*link)->send(frame_of(Verb::step)).error().code == Errc::closed);
    (*link)->close({Errc::closed, ""});
    link = Error{Errc::closed, ""};
    accepted.reset();
  }
}

}  // namespace farmesh
