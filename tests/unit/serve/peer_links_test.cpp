// Who may connect, what ends a connection, and what ends with it.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "unit/serve/swarm_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::Chain;
using test::Driver;
using test::embed;
using test::kAllLayers;
using test::kSession;
using test::Pair;
using test::session_id;
using test::Solo;

}  // namespace

TEST_SUITE("serve/peer") {
  TEST_CASE("with the driver's link go its sessions and their pages") {
    Chain chain;
    const std::uint32_t all = chain[1].free_pages();
    chain.open(1, 1);
    chain.open(1, 2);
    Driver other(chain.loop, chain.network, "driver2");
    REQUIRE(other.open(chain[1].address, Chain::kSpans[1], 1, 3));
    SUBCASE("when it hangs up") { chain.driver.hang_up(chain[1].address); }
    SUBCASE("when it dies") { chain.network.kill("driver"); }
    chain.loop.pass(6ms);
    CHECK(chain[1].peer->stats().sessions == 1);
    CHECK(chain[1].free_pages() == all - 32);
  }

  TEST_CASE("another head takes a session over, and the first one's end does not end it") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    Solo solo;
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1, 2}));
    CHECK(pair.driver.next_reply().rows == solo.run(0, embed({1, 2})));

    Driver heir(pair.loop, pair.network, "driver2");
    const auto reply = heir.open(pair.address, kAllLayers, 2);
    REQUIRE(reply);
    CHECK(reply->held_positions == 2);
    pair.driver.hang_up(pair.address);
    pair.loop.pass(1s);
    heir.step(pair.address, heir.step_message(2, {}, 2), embed({3}));
    CHECK(heir.next_reply().rows == solo.run(2, embed({3})));
    heir.hang_up(pair.address);
    pair.loop.pass(1s);
    CHECK(pair.node.peer->stats().sessions == 0);
  }

  TEST_CASE("bytes that break the protocol end that connection and no other") {
    Pair pair;
    Driver other(pair.loop, pair.network, "driver2");
    REQUIRE(other.open(pair.address, kAllLayers));
    const auto end = [&](wire::Frame frame) {
      REQUIRE(pair.driver.to(pair.address)->push(std::move(frame)));
      pair.driver.closes.clear();
      pair.loop.pass(1s);
      pair.driver.hang_up(pair.address);
      return pair.driver.closes[pair.address];
    };
    using wire::Verb;
    for (const Verb verb : {Verb::open, Verb::step, Verb::truncate, Verb::replay, Verb::history,
                            Verb::close, Verb::generate}) {
      wire::Frame frame;
      frame.verb = verb;
      frame.header.assign(40, std::byte{0xA5});
      CHECK(end(std::move(frame)) == Errc::bad_header);
    }
    wire::Frame token;
    token.verb = Verb::token;
    CHECK(end(std::move(token)) == Errc::unexpected_verb);
    wire::Frame answer;
    answer.verb = Verb::step;
    answer.reply = true;
    CHECK(end(std::move(answer)) == Errc::unexpected_verb);
    other.step(pair.address, other.step_message(0), embed({1}));
    CHECK(other.next_reply().rows == Solo().run(0, embed({1})));
  }

  TEST_CASE("more connections than allowed are refused with the reason") {
    PeerOptions options;
    options.max_connections = 2;
    Pair pair(options);
    REQUIRE(pair.driver.to(pair.address));
    Driver second(pair.loop, pair.network, "driver2");
    REQUIRE(second.to(pair.address));
    Driver third(pair.loop, pair.network, "driver3");
    const auto refused = third.dial(pair.address);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::quota);
    second.hang_up(pair.address);
    pair.loop.pass(1s);
    CHECK(third.dial(pair.address));
  }

  TEST_CASE("a peer that drains takes no new session and lets the open ones end") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    bool over = false;
    const auto drain = [](Peer& peer, TimePoint deadline, bool& done) -> net::Task<void> {
      auto draining = peer.drain(deadline);
      co_await std::move(draining);
      done = true;
    };
    net::spawn(pair.loop.clock.executor(), "test",
               drain(*pair.node.peer, pair.loop.after(10s), over));
    pair.loop.pass(1s);
    CHECK(pair.driver.open(pair.address, kAllLayers, 1, 8).error().code == Errc::busy);
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1}));
    CHECK(pair.driver.next_reply().rows == Solo().run(0, embed({1})));
    CHECK_FALSE(over);
    SUBCASE("by themselves") {
      pair.driver.push(pair.address, wire::Verb::close,
                       wire::encode(wire::Close{session_id(kSession)}));
      pair.loop.pass(1s);
    }
    SUBCASE("until the deadline") { pair.loop.pass(10s); }
    CHECK(over);
    CHECK(pair.driver.closes.contains(pair.address));
    CHECK(pair.node.worker->load().sessions == 0);
    CHECK_FALSE(Driver(pair.loop, pair.network, "driver2").dial(pair.address));
  }

  TEST_CASE("a peer that ends frees its sessions and calls nobody") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1}));
    pair.loop.pass(8ms);
    pair.node.peer.reset();
    pair.loop.pass(1s);
    CHECK(pair.driver.replies.empty());
    CHECK(pair.driver.closes.contains(pair.address));
    CHECK(pair.node.worker->load().sessions == 0);
  }

  TEST_CASE("an idle session is closed, and its next step is told so") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    pair.loop.pass(61min);
    CHECK(pair.node.peer->stats().sessions == 0);
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1}));
    CHECK(pair.driver.next_error().message.code == Errc::session_unknown);
  }

  TEST_CASE("one remote has its share of sessions, by its key and not by its connections") {
    PeerOptions options;
    options.shares.sessions = 2;
    Pair pair(options);
    REQUIRE(pair.driver.open(pair.address, kAllLayers, 1, 1));
    REQUIRE(pair.driver.open(pair.address, kAllLayers, 1, 2));
    CHECK(pair.driver.open(pair.address, kAllLayers, 1, 3).error().code == Errc::quota);
    CHECK(pair.driver.open(pair.address, kAllLayers, 2, 2));  // its own, again
    Driver other(pair.loop, pair.network, "driver2");
    CHECK(other.open(pair.address, kAllLayers, 1, 3));
    pair.driver.hang_up(pair.address);
    pair.loop.pass(1s);
    CHECK(other.open(pair.address, kAllLayers, 1, 4));
    CHECK(other.open(pair.address, kAllLayers, 1, 5).error().code == Errc::quota);
  }

  TEST_CASE("one remote has an hour's tokens for nothing, whatever sessions they are in") {
    PeerOptions options;
    options.shares.unpaid_tokens = 3;
    Pair pair(options);
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1, 2, 3}));
    Solo alone;
    CHECK(pair.driver.next_reply().rows == alone.run(0, embed({1, 2, 3})));
    pair.driver.step(pair.address, pair.driver.step_message(3), embed({4}));
    CHECK(pair.driver.next_error().message.code == Errc::quota);
    pair.loop.pass(21min);
    pair.driver.step(pair.address, pair.driver.step_message(3), embed({4}));
    CHECK(pair.driver.next_reply().rows == alone.run(3, embed({4})));
  }

  TEST_CASE("in a full peer a session that nobody touches makes room, and its driver is told") {
    WorkerLimits limits;
    limits.max_sessions = 1;
    Pair pair({}, limits);
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    Driver other(pair.loop, pair.network, "driver2");
    CHECK(other.open(pair.address, kAllLayers, 1, 8).error().code == Errc::too_many_sessions);
    pair.loop.pass(61s);
    CHECK(other.open(pair.address, kAllLayers, 1, 8));
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1}));
    CHECK(pair.driver.next_error().message.code == Errc::session_unknown);
    CHECK(pair.node.peer->stats().sessions == 1);
  }

  TEST_CASE("a stage in the driver's own process is served over a pipe") {
    Pair pair;
    auto [near, far] = net::make_pipe(pair.loop.clock, "driver", "local");
    pair.node.peer->attach(far);
    std::vector<wire::Frame> frames;
    auto connecting = net::Connection::connect_over(
        near, pair.loop.clock, farmesh::test::identity("driver"),
        [&](const auto&, wire::Frame frame) { frames.push_back(std::move(frame)); },
        [](const auto&, const Error&) {}, pair.loop.after(1s));
    const auto connection = pair.loop.run(std::move(connecting));
    REQUIRE(connection);
    auto opening = (*connection)
                       ->call(wire::Verb::open, wire::encode(pair.driver.open_message(kAllLayers)),
                              {}, pair.loop.after(1s));
    REQUIRE(pair.loop.run(std::move(opening)));
    wire::Step step = pair.driver.step_message(0);
    step.count = 2;
    wire::Frame frame;
    frame.verb = wire::Verb::step;
    frame.header = wire::encode(step);
    frame.payload = embed({8, 9});
    REQUIRE((*connection)->push(std::move(frame)));
    pair.loop.until([&] { return !frames.empty(); });
    CHECK(bytes_of(frames[0].payload) == Solo().run(0, embed({8, 9})));
  }
}

// --- generation on a peer's head -------------------------------------------------------------

namespace {

struct StandInService final : GenerateService {
  void start(std::shared_ptr<net::Connection> client, wire::Frame request,
             wire::Generate message) override {
    started.push_back(message.session);
    wire::TokenMessage token;
    token.session = message.session;
    token.id = 42;
    wire::Frame frame;
    frame.verb = wire::Verb::token;
    frame.reply = true;
    frame.stream = request.stream;
    frame.header = wire::encode(token);
    REQUIRE(client->push(std::move(frame)));
  }
  void cancel(const SessionId& session) override { cancelled.push_back(session); }

  std::vector<SessionId> started;
  std::vector<SessionId> cancelled;
};

void ask(Driver& driver, const std::string& address, std::uint32_t session) {
  wire::Frame frame;
  frame.verb = wire::Verb::generate;
  frame.stream = driver.to(address)->new_stream();
  frame.header = wire::encode(wire::Generate{session_id(session)});
  REQUIRE(driver.to(address)->push(std::move(frame)));
}

}  // namespace

TEST_SUITE("serve/peer") {
  TEST_CASE("generation is started for a client, and cancelled when it closes or goes") {
    StandInService service;
    Pair pair({}, {}, &service);
    CHECK(pair.driver.to(pair.address)->remote().service.head);
    ask(pair.driver, pair.address, 1);
    ask(pair.driver, pair.address, 2);
    pair.loop.pass(1s);
    CHECK(service.started == std::vector{session_id(1), session_id(2)});
    REQUIRE(pair.driver.others.size() == 2);
    CHECK(pair.driver.others[0].verb == wire::Verb::token);

    Driver stranger(pair.loop, pair.network, "driver2");
    ask(stranger, pair.address, 1);
    stranger.push(pair.address, wire::Verb::close, wire::encode(wire::Close{session_id(2)}));
    pair.loop.pass(1s);
    REQUIRE(stranger.others.size() == 1);
    CHECK(stranger.others[0].verb == wire::Verb::error);
    stranger.hang_up(pair.address);
    pair.loop.pass(1s);
    CHECK(service.cancelled.empty());

    pair.driver.push(pair.address, wire::Verb::close, wire::encode(wire::Close{session_id(1)}));
    pair.loop.pass(1s);
    CHECK(service.cancelled == std::vector{session_id(1)});
    pair.driver.hang_up(pair.address);
    pair.loop.pass(1s);
    CHECK(service.cancelled == std::vector{session_id(1), session_id(2)});
  }
}

}  // namespace farmesh::serve
