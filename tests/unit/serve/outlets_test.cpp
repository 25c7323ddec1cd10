#include "serve/outlets.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "net/sim_transport.hpp"
#include "unit/net/loop.hpp"
#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {

namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::embed;
using test::kRowBytes;

/// Outlets of host "a", and a listener "z:1" that notes the frames it gets.
struct OutletRig {
  explicit OutletRig(OutletOptions options = {}, net::SimConditions conditions = {5ms, 0ms, 0})
      : network(loop.clock, conditions, 1), a(network.host("a")), z(network.host("z")) {
    Outlets::Handlers handlers;
    handlers.on_undelivered = [this](const auto& address, const auto& parcel, const Error& error) {
      undelivered.push_back({address, parcel.position, error.code});
    };
    handlers.on_lost = [this](const auto& address, const Error&) { lost.push_back(address); };
    handlers.on_error = [this](const auto& address, const auto&) { errors.push_back(address); };
    outlets = std::make_unique<Outlets>(*a, farmesh::test::identity("a"), options, handlers);
  }

  void listen(const std::string& address) {
    auto listening = z->listen(address, [this](std::shared_ptr<net::Link> link) {
      ++accepted;
      net::Connection::accept(
          std::move(link), loop.clock, farmesh::test::identity("z"),
          [this](const auto&, wire::Frame frame) {
            const auto step = wire::decode<wire::Step>(frame.header);
            REQUIRE(step);
            positions.push_back(step->position);
            payloads.push_back(test::bytes_of(frame.payload));
          },
          [](const auto&, const auto&) {},
          [this](const auto& connection) { connections.push_back(connection); });
    });
    REQUIRE(listening);
    listeners.push_back(*std::move(listening));
  }

  void send(const std::string& address, std::uint32_t position, Payload payload,
            std::vector<Payload> parts = {}) {
    Outlets::Parcel parcel;
    parcel.position = position;
    wire::Step step;
    step.position = position;
    step.count = 1;
    parcel.frame.verb = wire::Verb::step;
    parcel.frame.header = wire::encode(step);
    parcel.frame.payload = std::move(payload);
    parcel.parts = std::move(parts);
    outlets->send(address, std::move(parcel));
  }

  struct Undelivered {
    std::string address;
    std::uint32_t position = 0;
    Errc code = Errc::ok;
  };

  farmesh::test::Loop loop;
  net::SimNetwork network;
  std::unique_ptr<net::Transport> a, z;
  std::vector<std::unique_ptr<net::Listener>> listeners;
  std::vector<std::shared_ptr<net::Connection>> connections;
  std::unique_ptr<Outlets> outlets;
  std::vector<Undelivered> undelivered;
  std::vector<std::string> lost, errors;
  std::vector<std::uint32_t> positions;
  std::vector<Bytes> payloads;
  int accepted = 0;
};

}  // namespace

TEST_SUITE("serve/outlets") {
  TEST_CASE("frames sent while dialling arrive in order over one connection") {
    OutletRig rig;
    rig.listen("z:1");
    for (std::uint32_t i = 0; i < 4; ++i) rig.send("z:1", i, embed({i}));
    rig.loop.pass(1s);
    rig.send("z:1", 4, {}, {embed({4}), embed({5, 6})});
    rig.send("z:1", 5, {}, {embed({7})});
    rig.loop.pass(1s);
    CHECK(rig.positions == std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5});
    CHECK(rig.payloads[4] == test::bytes_of(embed({4, 5, 6})));
    CHECK(rig.payloads[5] == test::bytes_of(embed({7})));
    CHECK(rig.accepted == 1);
    CHECK(rig.outlets->connections() == 1);
    CHECK(rig.undelivered.empty());
  }

  TEST_CASE("after a failed dial the next frame dials again") {
    OutletRig rig;
    rig.send("z:1", 0, embed({1}));
    rig.loop.pass(1s);
    REQUIRE(rig.undelivered.size() == 1);
    CHECK(rig.undelivered[0].code == Errc::connection_refused);
    CHECK(rig.lost.empty());
    rig.listen("z:1");
    rig.send("z:1", 1, embed({1}));
    rig.loop.pass(1s);
    CHECK(rig.positions == std::vector<std::uint32_t>{1});
  }

  TEST_CASE("a link that ends is told once, and replaced with the next frame") {
    OutletRig rig;
    rig.listen("z:1");
    rig.send("z:1", 0, embed({1}));
    rig.loop.pass(1s);
    rig.connections.clear();
    rig.loop.pass(1s);
    CHECK(rig.lost == std::vector<std::string>{"z:1"});
    rig.send("z:1", 1, embed({1}));
    rig.loop.pass(1s);
    CHECK(rig.positions == std::vector<std::uint32_t>{0, 1});
    CHECK(rig.accepted == 2);
  }

  TEST_CASE("a receiver that reads slowly holds up frames up to a bound, then they come back") {
    OutletOptions options;
    options.max_queued_bytes = 3 * kRowBytes;
    options.max_waiting_bytes = 10 * kRowBytes;
    OutletRig rig(options, {5ms, 0ms, 10.0 * kRowBytes});  // some ten frames a second
    rig.listen("z:1");
    rig.send("z:1", 0, embed({0}));
    rig.loop.pass(5s);
    for (std::uint32_t i = 1; i < 40; ++i) rig.send("z:1", i, embed({i}));
    const std::size_t refused = rig.undelivered.size();
    CHECK(refused >= 20);
    for (const auto& frame : rig.undelivered) CHECK(frame.code == Errc::busy);
    rig.loop.pass(1min);
    CHECK(rig.positions.size() == 40 - refused);
    CHECK(std::is_sorted(rig.positions.begin(), rig.positions.end()));
    CHECK(rig.lost.empty());

    for (std::uint32_t i = 0; i < 5; ++i) rig.send("z:1", i, embed({i}));
    rig.undelivered.clear();
    rig.network.kill("z");
    rig.loop.pass(1s);
    CHECK(rig.lost.size() == 1);
    CHECK(!rig.undelivered.empty());  // what still waited when the link ended
  }

  TEST_CASE("the number of next peers is bounded; one long unused makes room") {
    OutletOptions options;
    options.max_outlets = 2;
    OutletRig rig(options);
    for (const char* address : {"z:1", "z:2", "z:3"}) rig.listen(address);
    rig.send("z:1", 0, embed({1}));
    rig.loop.pass(1s);
    rig.send("z:2", 0, embed({1}));
    rig.loop.pass(1s);
    rig.send("z:3", 0, embed({1}));
    REQUIRE(rig.undelivered.size() == 1);
    CHECK(rig.undelivered[0].code == Errc::quota);
    rig.loop.pass(30s);
    rig.send("z:2", 1, embed({1}));
    rig.send("z:3", 0, embed({1}));
    rig.loop.pass(1s);
    CHECK(rig.undelivered.size() == 1);
    CHECK(rig.positions.size() == 4);
    CHECK(rig.outlets->connections() == 2);
    CHECK(rig.lost.empty());  // closed from here
  }

  TEST_CASE("a receiver that pushes anything but errors about sessions is cut off") {
    OutletRig rig;
    rig.listen("z:1");
    rig.send("z:1", 0, embed({1}));
    rig.loop.pass(1s);
    wire::ErrorMessage message;
    message.code = Errc::session_unknown;
    message.about_session = true;
    wire::Frame frame;
    frame.verb = wire::Verb::error;
    frame.header = wire::encode(message);
    REQUIRE(rig.connections[0]->push(frame));
    rig.loop.pass(1s);
    CHECK(rig.errors.size() == 1);
    frame.verb = wire::Verb::open;
    REQUIRE(rig.connections[0]->push(frame));
    rig.loop.pass(1s);
    CHECK(rig.lost.size() == 1);
  }

  TEST_CASE("outlets that end in mid-dial or with frames waiting call nobody") {
    OutletRig rig;
    rig.listen("z:1");
    rig.send("z:1", 0, embed({1}));
    rig.send("nowhere:1", 0, embed({1}));
    rig.loop.pass(2ms);
    rig.outlets.reset();
    rig.loop.pass(10s);
    CHECK(rig.undelivered.empty());
    CHECK(rig.lost.empty());
    CHECK(rig.positions.empty());
  }
}

}  // namespace farmesh::serve
