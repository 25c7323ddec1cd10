// Peers that die, hang, forget or were replaced, seen from those that live.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "unit/serve/swarm_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::Chain;
using test::Driver;
using test::embed;
using test::kAllLayers;
using test::kRowBytes;
using test::kSession;
using test::Node;
using test::session_id;
using test::Solo;
using test::Tokens;

void check_lost(const Driver::Told& told, const std::string& from, const std::string& hop,
                std::uint32_t epoch, std::uint32_t position) {
  CHECK(told.from == from);
  CHECK(told.message.code == Errc::next_hop_lost);
  CHECK(told.message.hop == hop);
  CHECK(told.message.epoch == epoch);
  CHECK(told.message.position == position);
}

}  // namespace

TEST_SUITE("serve/peer failures") {
  TEST_CASE("a next hop that nobody listens at is told to the driver") {
    Chain chain;
    chain.open();
    std::vector<wire::Hop> route = chain.route();
    route[0].address = "nowhere:1";
    chain.driver.step(chain[0].address, chain.driver.step_message(0, route), embed({1}));
    check_lost(chain.driver.next_error(), chain[0].address, "nowhere:1", 1, 0);
    // The rows are not lost: they are in the cache and in the history here.
    CHECK(chain.driver.history(chain[0].address)->positions == 1);
    CHECK(chain.driver.history(chain[0].address)->stored_end == 1);
  }

  TEST_CASE("a next hop that accepts and says nothing is given up after the dial timeout") {
    PeerOptions options;
    options.dial_timeout = 700ms;
    Chain chain(options);
    chain.open();
    const auto silent = chain.network.host("silent");
    std::vector<std::shared_ptr<net::Link>> links;
    const auto listener =
        silent->listen("silent:1", [&](std::shared_ptr<net::Link> link) { links.push_back(link); });
    REQUIRE(listener);
    std::vector<wire::Hop> route = chain.route();
    route[0].address = "silent:1";
    const TimePoint begin = chain.loop.clock.now();
    for (std::uint32_t i = 0; i < 3; ++i) {
      chain.driver.step(chain[0].address, chain.driver.step_message(i, route), embed({i}));
    }
    for (std::uint32_t i = 0; i < 3; ++i) {
      check_lost(chain.driver.next_error(), chain[0].address, "silent:1", 1, i);
    }
    CHECK(chain.loop.clock.now() - begin < 800ms);
    CHECK(links.size() == 1);  // one dial for all of them
  }

  TEST_CASE("when the next hop dies, the driver hears of it from the hop before") {
    Chain chain;
    chain.open();
    chain.run(0, {1, 2, 3});
    chain.driver.step(chain[0].address, chain.driver.step_message(3, chain.route()), embed({4}));
    chain.loop.pass(17ms);  // on its way from the first to the second
    chain.network.kill("b");
    check_lost(chain.driver.next_error(), chain[0].address, chain[1].address, 1, 3);
    chain.loop.pass(1s);
    CHECK(chain.driver.errors.empty());
    CHECK(chain.driver.replies.empty());
    CHECK(chain[0].peer->stats().sessions == 1);
  }

  TEST_CASE("a hop that hangs is lost to those who pushed rows to it lately, and only to them") {
    Chain chain;
    chain.open(1, kSession);
    chain.open(1, 8);
    chain.driver.step(chain[0].address, chain.driver.step_message(0, chain.route(), 1, 8),
                      embed({1}));
    chain.driver.next_reply();
    chain.loop.pass(20min);
    chain.run(0, {1});
    chain.network.partition("a", "b", true);
    chain.driver.step(chain[0].address, chain.driver.step_message(1, chain.route()), embed({2}));
    const auto told = chain.driver.next_error();
    check_lost(told, chain[0].address, chain[1].address, 1, 1);
    CHECK(told.message.session == session_id(kSession));
    chain.loop.pass(1min);
    CHECK(chain.driver.errors.empty());
  }

  TEST_CASE("a next hop that forgot the session is told to the driver as lost") {
    Chain chain;
    chain.open();
    chain.run(0, {1});
    chain[1].worker->close(session_id(kSession));
    chain.driver.push(chain[1].address, wire::Verb::close,
                      wire::encode(wire::Close{session_id(kSession)}));
    chain.loop.pass(1s);
    chain.driver.step(chain[0].address, chain.driver.step_message(1, chain.route()), embed({2}));
    const auto told = chain.driver.next_error();
    check_lost(told, chain[0].address, chain[1].address, 1, 1);
    CHECK(told.message.detail.find("session_unknown") != std::string::npos);
  }

  TEST_CASE("a lost stage is rebuilt on another peer from what the one before it sent") {
    Chain chain;
    chain.open();
    Solo solo;
    const Tokens prompt = test::text(3, 20);
    CHECK(chain.run(0, prompt) == solo.run(0, embed(prompt)));
    for (std::uint32_t i = 20; i < 30; ++i) {
      CHECK(chain.run(i, {i}) == solo.run(i, embed({i})));
    }
    chain.network.kill("b");

    Node spare(chain.loop, chain.network, "d", Chain::kSpans[1]);
    REQUIRE(chain.driver.open(spare.address, Chain::kSpans[1], 2));
    const auto history = chain.driver.history(chain[0].address);
    REQUIRE(history);
    CHECK(history->positions == 30);
    CHECK(history->stored_begin == 0);
    CHECK(history->stored_end == 30);
    chain.driver.errors.clear();
    REQUIRE(chain.driver.replay(chain[0].address, 0, 30, {{spare.address, Chain::kSpans[1]}}, 2) ==
            Errc::ok);
    const auto reply = chain.driver.next_reply();
    CHECK(reply.from == spare.address);
    CHECK(reply.message.replay);
    CHECK(reply.message.count == 30);  // eleven stored parts, joined
    CHECK(reply.rows.empty());
    CHECK(spare.log->forwards == 1);

    const std::vector<wire::Hop> route{{spare.address, Chain::kSpans[1]},
                                       {chain[2].address, Chain::kSpans[2]}};
    for (std::uint32_t i = 30; i < 34; ++i) {
      chain.driver.step(chain[0].address, chain.driver.step_message(i, route, 3), embed({i}));
      CHECK(chain.driver.next_reply().rows == solo.run(i, embed({i})));
    }
    // What was replayed to it, it could replay in turn.
    CHECK(chain.driver.history(spare.address)->stored_begin == 0);
    CHECK(chain.driver.history(spare.address)->stored_end == 34);
    CHECK(chain.driver.history(chain[2].address)->stored_end == 0);  // none comes after it
  }

  TEST_CASE("late rows of the route that was replaced do no harm") {
    Chain chain;
    chain.open();
    Solo solo;
    chain.run(0, {1, 2, 3});
    solo.run(0, embed({1, 2, 3}));
    chain.network.set_latency("a", "b", 2s);  // b gets the next row only in a while
    chain.driver.step(chain[0].address, chain.driver.step_message(3, chain.route()), embed({90}));
    chain.loop.pass(500ms);

    Node spare(chain.loop, chain.network, "d", Chain::kSpans[1]);
    REQUIRE(chain.driver.open(spare.address, Chain::kSpans[1], 2));
    REQUIRE(chain.driver.replay(chain[0].address, 0, 3, {{spare.address, Chain::kSpans[1]}}, 2) ==
            Errc::ok);
    chain.driver.next_reply();
    const std::vector<wire::Hop> route{{spare.address, Chain::kSpans[1]},
                                       {chain[2].address, Chain::kSpans[2]}};
    chain.driver.step(chain[0].address, chain.driver.step_message(3, route, 3), embed({50}));
    CHECK(chain.driver.next_reply().rows == solo.run(3, embed({50})));
    chain.loop.pass(10s);  // now b's output of the old row has come to c as well
    CHECK(chain.driver.replies.empty());
    for (const auto& told : chain.driver.errors) CHECK(told.message.epoch == 1);
    chain.driver.step(chain[0].address, chain.driver.step_message(4, route, 3), embed({51}));
    CHECK(chain.driver.next_reply().rows == solo.run(4, embed({51})));
  }

  TEST_CASE("what was queued for the lost stage vanishes when the replay begins") {
    Chain chain;
    chain.open();
    chain.run(0, {1});
    Node spare(chain.loop, chain.network, "d", Chain::kSpans[1]);
    REQUIRE(chain.driver.open(spare.address, Chain::kSpans[1], 2));
    for (std::uint32_t i = 1; i < 4; ++i) {
      chain.driver.step(chain[0].address, chain.driver.step_message(i, chain.route()), embed({i}));
    }
    chain.loop.pass(2ms);  // the first of them will run, and two wait
    REQUIRE(chain.driver.replay(chain[0].address, 0, 1, {{spare.address, Chain::kSpans[1]}}, 2) ==
            Errc::ok);
    chain.loop.pass(1s);
    CHECK(chain.driver.history(chain[0].address)->positions == 1);
    CHECK(chain.driver.history(spare.address)->positions == 1);
    CHECK(chain.driver.errors.empty());
  }

  TEST_CASE("a replay that cannot be had is refused, with what is stored") {
    PeerOptions options;
    options.history_bytes = 4 * (160 + kRowBytes);
    Chain chain(options);
    chain.open();
    for (std::uint32_t i = 0; i < 10; ++i) chain.run(i, {i});
    const auto history = chain.driver.history(chain[0].address);
    REQUIRE(history);
    CHECK(history->stored_begin == 6);
    CHECK(history->stored_end == 10);
    const std::vector<wire::Hop> route{{chain[1].address, Chain::kSpans[1]}};
    const auto replay = [&](std::uint32_t from, std::uint32_t to, std::uint32_t epoch) {
      return chain.driver.replay(chain[0].address, from, to, route, epoch);
    };
    CHECK(replay(5, 10, 2) == Errc::position_gap);
    CHECK(chain.driver.last_error.detail.find("6 to 10") != std::string::npos);
    CHECK(replay(6, 11, 2) == Errc::position_gap);
    CHECK(replay(6, 10, 0) == Errc::stale_epoch);
    CHECK(chain.driver.replay(chain[0].address, 6, 10, {}, 2) == Errc::invalid_argument);
    CHECK(replay(7, 7, 1) == Errc::ok);
    REQUIRE(chain.driver.open(chain[1].address, Chain::kSpans[1], 2));
    CHECK(replay(6, 10, 3) == Errc::ok);
    CHECK(chain.driver.next_reply().message.count == 4);
    chain.driver.push(chain[0].address, wire::Verb::close,
                      wire::encode(wire::Close{session_id(kSession)}));
    CHECK(replay(6, 10, 4) == Errc::session_unknown);
  }

  TEST_CASE("a replay to a stage that is gone tells the driver, and may be tried again") {
    Chain chain;
    chain.open();
    chain.run(0, test::text(1, 30));
    const std::vector<wire::Hop> nowhere{{"nowhere:1", Chain::kSpans[1]}};
    CHECK(chain.driver.replay(chain[0].address, 0, 30, nowhere, 2) == Errc::ok);
    CHECK(chain.driver.replay(chain[0].address, 0, 30, nowhere, 2) == Errc::busy);
    check_lost(chain.driver.next_error(), chain[0].address, "nowhere:1", 2, 0);
    CHECK(chain.driver.replay(chain[0].address, 0, 30, nowhere, 2) == Errc::ok);
  }

  TEST_CASE("a replay longer than the window arrives whole and in order") {
    WorkerLimits limits;
    limits.cache_tokens = 8'192;
    Chain chain({}, limits);
    for (std::size_t i = 0; i < 3; ++i) {
      auto message = chain.driver.open_message(Chain::kSpans[i]);
      message.max_positions = 8'000;
      REQUIRE(chain.driver.open(chain[i].address, message));
    }
    std::uint32_t position = 0;
    for (; position < 7'000; position += 1'000) {
      chain.run(position, test::text(position, 1'000));
    }
    Node spare(chain.loop, chain.network, "d", Chain::kSpans[1], {}, limits);
    auto message = chain.driver.open_message(Chain::kSpans[1], 2);
    message.max_positions = 8'000;
    REQUIRE(chain.driver.open(spare.address, message));
    REQUIRE(chain.driver.replay(chain[0].address, 0, position, {{spare.address, Chain::kSpans[1]}},
                                2) == Errc::ok);
    for (std::uint32_t done = 0; done < position;) {
      const auto reply = chain.driver.next_reply();
      CHECK(reply.message.position == done);
      done += reply.message.count;
    }
    CHECK(chain.driver.errors.empty());
    CHECK(chain.driver.history(spare.address)->positions == position);
  }
}

}  // namespace farmesh::serve
