// What strangers and accidents may do to a chain, and what becomes of it.

#include <limits>

#include <doctest/doctest.h>

#include "driver/chain.hpp"
#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using driver::Chain;
using driver::ChainEvent;
using wire::Want;

namespace {

/// Three peers in a row and a chain over them, at 20 positions once started.
struct Swarm : World {
  ScriptedPeer& a = add("a", {0, 2});
  ScriptedPeer& b = add("b", {2, 4});
  ScriptedPeer& c = add("c", {4, 6});
  std::unique_ptr<Chain> chain;

  void start() {
    connect();
    chain = std::make_unique<Chain>(set, inputs(), chain_options(), record());
    REQUIRE(loop.run(chain->open()));
    check_step(0, 20);
  }

  /// Comes when the route is made already.
  ScriptedPeer& spare(const std::string& name, Span span) {
    ScriptedPeer& peer = add(name, span);
    connect();
    return peer;
  }

  void check_step(std::uint32_t from, std::uint32_t count) {
    const auto row = loop.run(chain->step(from, count, Want::last_row));
    if (!row) FAIL_CHECK(row.error().to_string());
    REQUIRE(row);
    CHECK(bytes_of(*row) == expected(from + count));
  }

  std::string route() const {
    std::string text;
    for (const auto& hop : chain->hops()) text += hop.address.substr(0, 1);
    return text;
  }
};

/// Where the first replay step that the peer computed began; nothing if there was none.
std::optional<std::uint32_t> replays_from(const ScriptedPeer& peer) {
  for (const wire::Step& step : peer.seen.steps) {
    if (step.replay) return step.position;
  }
  return std::nullopt;
}

/// Runs `act` when `host` has sent its `nth` step frame from now on.
void at_step(World& world, const std::string& host, int nth, std::function<void()> act) {
  auto left = std::make_shared<int>(nth);
  world.network.on_frame([=](const std::string& from, const std::string&, const wire::Frame& f) {
    if (from == host && f.verb == wire::Verb::step && --*left == 0) act();
  });
}

}  // namespace

TEST_SUITE("driver/chain_failure") {
  TEST_CASE("a lost hop is replaced and rebuilt from the hop before it") {
    Swarm swarm;
    swarm.start();
    ScriptedPeer& d = swarm.spare("d", {1, 5});
    swarm.network.kill("b");
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "adc");
    CHECK(swarm.chain->recoveries() == 1);
    CHECK(swarm.a.seen.replays.size() == 1);
    CHECK(d.seen.opens[0].span == Span{2, 4});
    CHECK(swarm.a.seen.steps.back().position == 20);
    CHECK(swarm.head.embeds == 0);
    CHECK(swarm.count(ChainEvent::Kind::lost) == 1);
    CHECK(swarm.count(ChainEvent::Kind::replaced) == 1);
    REQUIRE(swarm.count(ChainEvent::Kind::replayed) == 1);
    CHECK(swarm.events.back().positions == 20);
    swarm.check_step(21, 10);
    REQUIRE(swarm.chain->committed().size() == 2);
    CHECK(swarm.chain->committed()[0].end == 20);
    CHECK(swarm.chain->committed()[1].begin == 20);
    CHECK(swarm.chain->committed()[1].route[1].address == "d:1");
  }

  TEST_CASE("the first hop is rebuilt from the inputs, the last from the one before it") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {0, 6});
    SUBCASE("first") {
      swarm.network.kill("a");
      swarm.check_step(20, 1);
      CHECK(swarm.route() == "dbc");
      CHECK(swarm.b.seen.steps.back().position == 20);
      CHECK(swarm.b.seen.steps.size() == 4);  // three chunks and the new row: nothing again
    }
    SUBCASE("last") {
      swarm.network.kill("c");
      swarm.check_step(20, 1);
      CHECK(swarm.route() == "abd");
      CHECK(swarm.b.seen.replays.size() == 1);
    }
  }

  TEST_CASE("two lost neighbours are rebuilt in one flow, by two peers with other spans") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 3});
    swarm.spare("e", {3, 6});
    swarm.network.kill("b");
    swarm.network.kill("c");
    swarm.check_step(20, 3);
    CHECK(swarm.route() == "ade");
    REQUIRE(swarm.a.seen.replays.size() == 1);
    CHECK(swarm.a.seen.replays[0].route.size() == 2);
  }

  TEST_CASE("first and last lost at once are rebuilt one after the other") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {0, 2});
    swarm.spare("e", {4, 6});
    swarm.network.kill("a");
    swarm.network.kill("c");
    swarm.check_step(20, 3);
    CHECK(swarm.route() == "dbe");
    CHECK(swarm.count(ChainEvent::Kind::replayed) == 2);
  }

  TEST_CASE("where history is cut the rebuild begins further back, at last with the inputs") {
    Swarm swarm;
    SUBCASE("the hop before has too little, the one before that has all") {
      swarm.b.script.history_rows = 4;
      swarm.start();
      swarm.spare("d", {4, 6});
      swarm.network.kill("c");
      swarm.check_step(20, 3);
      CHECK(swarm.b.seen.replays.empty());
      REQUIRE(swarm.a.seen.replays.size() == 1);
      CHECK(swarm.a.seen.replays[0].route.size() == 2);  // through "b", which runs again
    }
    SUBCASE("nobody has enough") {
      swarm.a.script.history_rows = swarm.b.script.history_rows = 0;
      swarm.start();
      swarm.spare("d", {4, 6});
      swarm.network.kill("c");
      swarm.check_step(20, 3);
      CHECK(swarm.a.seen.replays.empty());
      CHECK(replays_from(swarm.a) == 0);
    }
    SUBCASE("it was cut between the question and the replay") {
      swarm.start();
      swarm.spare("d", {4, 6});
      swarm.network.on_frame([&](const auto&, const auto& to, const wire::Frame& frame) {
        if (to == "b" && frame.verb == wire::Verb::replay) swarm.b.script.history_rows = 1;
      });
      swarm.network.kill("c");
      swarm.check_step(20, 3);
      CHECK(swarm.b.seen.replays.empty());
      CHECK(swarm.a.seen.replays.size() == 1);
    }
    CHECK(swarm.route() == "abd");
    CHECK(swarm.chain->recoveries() == 1);
  }

  TEST_CASE("a hop that found its prefix by name cannot replay it, and is passed over") {
    Swarm swarm;
    for (ScriptedPeer* peer : {&swarm.a, &swarm.b, &swarm.c}) peer->script.held_positions = 8;
    swarm.connect();
    swarm.chain =
        std::make_unique<Chain>(swarm.set, swarm.inputs(), swarm.chain_options(), swarm.record());
    REQUIRE(*swarm.loop.run(swarm.chain->open()) == 8);
    swarm.spare("d", {4, 6});
    swarm.network.kill("c");
    swarm.check_step(8, 4);  // only true if everything was computed again from position 0
    CHECK(swarm.b.seen.replays.empty());
    CHECK(replays_from(swarm.a) == 0);
  }

  TEST_CASE("a hop that holds the missing layers too is opened again with a larger span") {
    World world;
    ScriptedPeer& a = world.add("a", {0, 6});
    ScriptedPeer& b = world.add("b", {3, 6});
    a.script.step_time = 30ms;
    world.connect();
    world.set.report_success("a:1", {0, 6}, 6s, 1);  // slow: "b" takes what it can
    Chain chain(world.set, world.inputs(), world.chain_options(), world.record());
    REQUIRE(world.loop.run(chain.open()));
    REQUIRE(chain.hops().size() == 2);
    REQUIRE(world.loop.run(chain.step(0, 20, Want::last_row)));
    CHECK(b.seen.steps.size() == 3);
    world.network.kill("b");
    const auto row = world.loop.run(chain.step(20, 1, Want::last_row));
    REQUIRE(row);
    CHECK(bytes_of(*row) == world.expected(21));
    REQUIRE(chain.hops().size() == 1);
    CHECK(chain.hops()[0].span == Span{0, 6});
  }

  TEST_CASE("when nobody is left for a layer the step fails, and works when somebody is back") {
    Swarm swarm;
    swarm.start();
    swarm.network.kill("b");
    const auto row = swarm.loop.run(swarm.chain->step(20, 1, Want::last_row));
    REQUIRE_FALSE(row);
    CHECK(row.error().code == Errc::no_route);
    CHECK(row.error().detail.starts_with("no peer holds layer 2"));
    swarm.network.revive("b");
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "abc");
  }

  TEST_CASE("a peer that comes back is dialled again before giving up, though it is banned") {
    Swarm swarm;
    swarm.start();
    swarm.network.kill("b");
    swarm.loop.pass(1s);
    swarm.network.revive("b");
    swarm.check_step(20, 1);
  }

  TEST_CASE("a failure at any moment of the run is repaired") {
    for (int nth = 1; nth < 24; ++nth) {
      for (const std::string victim : {"a", "b", "c"}) {
        for (const std::string sender : {"driver", "a", "b", "c"}) {
          Swarm swarm;
          swarm.start();
          swarm.spare("d", {0, 3});
          swarm.spare("e", {2, 6});
          at_step(swarm, sender, nth, [&] { swarm.network.kill(victim); });
          swarm.check_step(20, 40);
          swarm.check_step(60, 1);
        }
      }
    }
  }

  TEST_CASE("a second failure during the repair is repaired too") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4});
    swarm.spare("e", {0, 4});
    std::string second;
    SUBCASE("the replacement, while it is rebuilt") { second = "d"; }
    SUBCASE("the source of the replay") { second = "a"; }
    SUBCASE("a hop after the hole") {
      second = "c";
      swarm.spare("f", {4, 6});
    }
    for (int i = 0; i < 8; ++i) {
      swarm.set.report_success("d:1", {2, 4}, 2us,
                               1);  // so fast, and so often, that it comes first
    }
    swarm.network.on_frame([&, done = false](const auto&, const auto& to, const auto& f) mutable {
      if (done || to != "d" || f.verb != wire::Verb::step) return;
      done = true;
      swarm.network.kill(second);
    });
    swarm.network.kill("b");
    swarm.check_step(20, 3);
    CHECK(swarm.chain->recoveries() >= 2);
  }

  TEST_CASE("rows and errors of an abandoned try are not mistaken for the present one") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {4, 6});
    swarm.network.set_latency("c", "driver", 300ms);  // its answer comes late, and is dropped
    swarm.network.set_latency("b", "c", 1ms);
    at_step(swarm, "b", 1, [&] {
      swarm.loop.clock.call_at(swarm.loop.after(50ms), [&] {
        swarm.set.disconnect("c:1", {Errc::timeout, "test"});
      });
    });
    swarm.check_step(20, 1);
    swarm.loop.pass(2s);
    swarm.check_step(21, 1);
    CHECK(swarm.route() == "abd");
  }

  TEST_CASE("errors about a session make the hop that tells them be replaced") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4});
    Errc code = Errc::ok;
    SUBCASE("compute_failed") { code = Errc::compute_failed; }
    SUBCASE("session_unknown") { code = Errc::session_unknown; }
    SUBCASE("position_gap") { code = Errc::position_gap; }
    SUBCASE("busy") { code = Errc::busy; }
    SUBCASE("deadline_passed") { code = Errc::deadline_passed; }
    SUBCASE("a number from the future") { code = Errc::remote_unknown; }
    swarm.b.script.fail_step = [code](const auto&) { return code; };
    swarm.check_step(20, 20);
    CHECK(swarm.route() == "adc");
    CHECK(swarm.b.open_sessions() == 0);  // told to forget it
  }

  TEST_CASE("without another peer the same one is opened again and rebuilt") {
    Swarm swarm;
    swarm.start();
    int failures = 3;
    swarm.b.script.fail_step = [&](const wire::Step& step) {
      return step.position == 25 && failures-- > 0 ? Errc::compute_failed : Errc::ok;
    };
    swarm.check_step(20, 5);
    swarm.check_step(25, 1);
    CHECK(swarm.route() == "abc");
    CHECK(swarm.chain->recoveries() == 3);
  }

  TEST_CASE("a peer that fails every time ends the step with its error, after a bounded number") {
    Swarm swarm;
    swarm.start();
    swarm.b.script.fail_step = [](const wire::Step& step) {
      return step.position == 20 ? Errc::compute_failed : Errc::ok;
    };
    const auto row = swarm.loop.run(swarm.chain->step(20, 1, Want::last_row));
    REQUIRE_FALSE(row);
    CHECK(row.error().code == Errc::compute_failed);
    CHECK(row.error().detail.starts_with("b:1"));
    CHECK(swarm.chain->recoveries() == 4);
    swarm.b.script.fail_step = nullptr;
    swarm.check_step(20, 1);
  }

  TEST_CASE("a peer that answers nonsense is replaced") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {4, 6});
    auto& spoil = swarm.c.script.spoil;
    SUBCASE("NaN") {
      spoil = [](wire::StepReply&, Payload& rows) {
        AlignedBuffer bad(rows.size());
        std::memset(bad.data(), 0xFF, bad.size());
        rows = Payload(std::move(bad));
      };
    }
    SUBCASE("another dtype") {
      spoil = [](auto& reply, Payload&) { reply.dtype = DType::bf16; };
    }
    SUBCASE("too many rows") {
      spoil = [](auto& reply, Payload&) { reply.rows = 2; };
    }
    SUBCASE("no rows") {
      spoil = [](auto& reply, Payload& rows) {
        reply.rows = 0;
        rows = {};
      };
    }
    SUBCASE("a short payload") {
      spoil = [](auto&, Payload& rows) { rows = rows.slice(0, rows.size() - 4); };
    }
    SUBCASE("another position") {
      spoil = [](auto& reply, Payload&) { ++reply.position; };
    }
    SUBCASE("another count") {
      spoil = [](auto& reply, Payload&) { reply.count = 7; };
    }
    SUBCASE("a replay that was not asked") {
      spoil = [](auto& reply, Payload&) { reply.replay = true; };
    }
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "abd");
    CHECK(swarm.chain->recoveries() == 1);
  }

  TEST_CASE("an answer from a peer that was not asked for it is ignored") {
    Swarm swarm;
    swarm.start();
    auto other = swarm.network.host("x");
    wire::StepReply reply;
    reply.session = swarm.chain_options().session;
    reply.epoch = swarm.chain->epoch();
    reply.position = 20;
    reply.count = reply.rows = 1;
    reply.dtype = DType::f32;
    swarm.b.script.swallow_step = [&](const wire::Step&) {
      swarm.b.tell_driver(reply, swarm.input_rows(0, 1));
      return false;
    };
    swarm.check_step(20, 1);
    CHECK(swarm.chain->recoveries() == 0);
  }

  TEST_CASE("a link between two hops that ends when its rows have arrived is no loss") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4});
    wire::Step step;
    step.session = swarm.chain_options().session;
    step.epoch = swarm.chain->epoch();
    step.position = 16;
    swarm.a.tell_driver_error(step, Errc::next_hop_lost, "b:1");
    swarm.loop.pass(100ms);
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "abc");
    CHECK(swarm.chain->recoveries() == 0);
  }

  TEST_CASE("a peer that falls silent is found by patience, and only it is replaced") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4});
    swarm.b.script.silent = true;
    const TimePoint start = swarm.loop.clock.now();
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "adc");
    CHECK(swarm.chain->recoveries() == 1);
    CHECK(swarm.loop.clock.now() - start < 5s);  // twice the least patience, and the repair
  }

  TEST_CASE("a peer that is slow but alive is waited for when nobody could take its place") {
    Swarm swarm;
    swarm.start();
    swarm.b.script.step_time = 12s;
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "abc");
    CHECK(swarm.chain->recoveries() == 0);
    swarm.b.script.step_time = 80s;  // known to need 12 s by now
    swarm.check_step(21, 1);
    CHECK(swarm.chain->recoveries() == 0);
  }

  TEST_CASE("a spare is made ready behind a peer that is slow, and whoever comes first goes on") {
    Swarm swarm;
    swarm.start();
    ScriptedPeer& d = swarm.spare("d", {2, 4});
    const TimePoint start = swarm.loop.clock.now();
    SUBCASE("the spare") {
      swarm.b.script.step_time = 60s;
      swarm.check_step(20, 1);
      CHECK(swarm.route() == "adc");
      CHECK(swarm.chain->recoveries() == 1);
      CHECK(swarm.count(ChainEvent::Kind::replayed) == 0);  // it was warm already
      CHECK(swarm.loop.clock.now() - start < 5s);
    }
    SUBCASE("the slow one") {
      swarm.b.script.step_time = 4s;
      d.script.step_time = 60s;
      swarm.check_step(20, 1);
      CHECK(swarm.route() == "abc");
      CHECK(swarm.chain->recoveries() == 0);
      swarm.b.script.step_time = 0s;
      swarm.check_step(21, 1);
      swarm.loop.pass(70s);
      CHECK(d.open_sessions() == 0);
    }
  }

  TEST_CASE("a peer that loses rows and says nothing is replaced") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4});
    swarm.b.script.swallow_step = [](const wire::Step&) { return true; };
    swarm.check_step(20, 1);
    CHECK(swarm.route() == "adc");
  }

  TEST_CASE("two peers that cannot reach each other are not used together") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4});
    SUBCASE("the receiver is replaced first") {
      swarm.network.partition("a", "b", true);
      swarm.check_step(20, 1);
      CHECK(swarm.route() == "adc");
    }
    SUBCASE("a sender that reaches nobody is replaced itself") {
      swarm.spare("e", {0, 2});
      for (const std::string other : {"b", "d"}) swarm.network.partition("a", other, true);
      swarm.check_step(20, 1);
      CHECK(swarm.route().front() == 'e');
    }
  }

  TEST_CASE("a session that a peer forgot while idle is rebuilt by the next turn") {
    Swarm swarm;
    swarm.start();
    swarm.b.forget_sessions();
    REQUIRE(swarm.loop.run(swarm.chain->extend(400, {})));
    swarm.check_step(20, 5);
    CHECK(swarm.route() == "abc");
  }

  TEST_CASE("closing during a repair ends the step with cancelled and leaves no session") {
    Swarm swarm;
    swarm.start();
    swarm.spare("d", {2, 4}).script.step_time = 1s;
    swarm.network.on_frame([&](const auto&, const auto& to, const wire::Frame& frame) {
      if (to == "d" && frame.verb == wire::Verb::step) swarm.chain->close();
    });
    swarm.network.kill("b");
    const auto row = swarm.loop.run(swarm.chain->step(20, 1, Want::last_row));
    REQUIRE_FALSE(row);
    CHECK(row.error().code == Errc::cancelled);
    swarm.loop.pass(5s);
    for (const auto& peer : swarm.peers) {
      if (peer->address() != "b:1") CHECK(peer->open_sessions() == 0);
    }
  }
}
