#include "driver/chain.hpp"

#include <doctest/doctest.h>

#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using driver::Chain;
using driver::ChainEvent;
using wire::Want;

TEST_SUITE("driver/chain") {
  TEST_CASE("rows come out of any split as out of one engine") {
    World world;
    SUBCASE("one peer") { world.add("a", {0, 6}); }
    SUBCASE("three peers") {
      world.add("a", {0, 2});
      world.add("b", {2, 3});
      world.add("c", {3, 6});
    }
    SUBCASE("peers that overlap") {
      world.add("a", {0, 4});
      world.add("b", {1, 6});
    }
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options(), world.record());
    const auto held = world.loop.run(chain.open());
    REQUIRE(held);
    CHECK(*held == 0);
    const auto first = world.loop.run(chain.step(0, 30, Want::last_row));
    REQUIRE(first);
    CHECK(bytes_of(*first) == world.expected(30));
    for (std::uint32_t position = 30; position < 40; ++position) {
      const auto row = world.loop.run(chain.step(position, 1, Want::last_row));
      REQUIRE(row);
      CHECK(bytes_of(*row) == world.expected(position + 1));
    }
    CHECK(chain.positions() == 40);
    CHECK(chain.recoveries() == 0);
    CHECK(world.count(ChainEvent::Kind::opened) == chain.hops().size());
  }

  TEST_CASE("a step returns the last row, all rows, or none, as wanted") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    const auto all = world.loop.run(chain.step(0, 20, Want::all_rows));
    REQUIRE(all);
    CHECK(bytes_of(*all) == alone(world.input_rows(0, 20)));
    const auto none = world.loop.run(chain.step(20, 20, Want::nothing));
    REQUIRE(none);
    CHECK(none->empty());
    const auto last = world.loop.run(chain.step(40, 20, Want::last_row));
    REQUIRE(last);
    CHECK(bytes_of(*last) == world.expected(60));
  }

  TEST_CASE("a long run is cut into chunks that follow each other through the stages") {
    World world;
    for (const auto& [name, span] : {std::pair{"a", Span{0, 3}}, std::pair{"b", Span{3, 6}}}) {
      world.add(name, span).script.step_time = 50ms;
    }
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    const TimePoint start = world.loop.clock.now();
    REQUIRE(world.loop.run(chain.step(0, 64, Want::last_row)));
    const auto took = world.loop.clock.now() - start;
    CHECK(world.peers[0]->seen.steps.size() == 8);
    CHECK(world.peers[0]->seen.max_waiting == 4);  // window_chunks
    CHECK(took < 8 * 100ms);                       // one after the other
    CHECK(took < 8 * 50ms + 150ms);                // and hardly more than one stage's work
  }

  TEST_CASE("peers with small windows and steps are not sent more than they take") {
    World world;
    ScriptedPeer& a = world.add("a", {0, 3});
    ScriptedPeer& b = world.add("b", {3, 6});
    a.script.step_time = b.script.step_time = 10ms;
    a.script.max_step_rows = 5;
    b.script.window_steps = 1;
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    const auto row = world.loop.run(chain.step(0, 23, Want::last_row));
    REQUIRE(row);
    CHECK(bytes_of(*row) == world.expected(23));
    CHECK(a.seen.steps.size() == 5);
    CHECK(b.seen.max_waiting == 1);
  }

  TEST_CASE("generation may start behind the prefix that every hop holds") {
    World world;
    world.add("a", {0, 3}).script.held_positions = 12;
    world.add("b", {3, 6}).script.held_positions = 8;
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    const auto held = world.loop.run(chain.open());
    REQUIRE(held);
    CHECK(*held == 8);
    REQUIRE(world.loop.run(chain.step(8, 4, Want::last_row)));
    CHECK(world.peers[0]->seen.steps.size() == 1);  // "a" forgot 8 to 12 and ran them again
    CHECK(chain.recoveries() == 0);
    REQUIRE(chain.committed().size() == 1);
    CHECK(chain.committed()[0].begin == 8);  // what was found by name earns nothing
    CHECK(chain.committed()[0].end == 12);
  }

  TEST_CASE("positions may be run again, and are forgotten beyond") {
    World world;
    world.add("a", {0, 3});
    world.add("b", {3, 6});
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    REQUIRE(world.loop.run(chain.step(0, 20, Want::last_row)));
    const auto again = world.loop.run(chain.step(10, 5, Want::last_row));
    REQUIRE(again);
    CHECK(bytes_of(*again) == world.expected(15));
    CHECK(chain.positions() == 15);
    CHECK(chain.recoveries() == 0);
  }

  TEST_CASE("truncate forgets everywhere, and a step that overtakes it is not cut") {
    World world;
    world.add("a", {0, 3});
    world.add("b", {3, 6});
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    REQUIRE(world.loop.run(chain.step(0, 20, Want::last_row)));
    world.network.set_latency("driver", "b", 200ms);  // the step comes by way of "a", sooner
    chain.truncate(7);
    CHECK(chain.positions() == 7);
    const auto row = world.loop.run(chain.step(7, 3, Want::last_row));
    REQUIRE(row);
    CHECK(bytes_of(*row) == world.expected(10));
    world.loop.pass(1s);
    const auto next = world.loop.run(chain.step(10, 1, Want::last_row));
    REQUIRE(next);
    CHECK(bytes_of(*next) == world.expected(11));
    CHECK(world.peers[0]->seen.truncates == 1);
    CHECK(world.peers[1]->seen.truncates == 1);
    CHECK(chain.recoveries() == 0);
  }

  TEST_CASE("steps beyond the promise fail, until it is raised") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    driver::ChainOptions options = world.chain_options();
    options.max_positions = 10;
    Chain chain(world.set, world.inputs(), options);
    REQUIRE(world.loop.run(chain.open()));
    const auto beyond = world.loop.run(chain.step(0, 11, Want::last_row));
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == Errc::context_exceeded);
    REQUIRE(world.loop.run(chain.step(0, 10, Want::last_row)));
    REQUIRE(world.loop.run(chain.extend(20, {PageName{{1}}})));
    const auto row = world.loop.run(chain.step(10, 10, Want::last_row));
    REQUIRE(row);
    CHECK(bytes_of(*row) == world.expected(20));
    const auto& opens = world.peers[0]->seen.opens;
    REQUIRE(opens.size() == 2);
    CHECK(opens[1].max_positions == 20);
    CHECK(opens[1].page_names.size() == 1);
  }

  TEST_CASE("closing frees every peer at once and ends the step in progress with cancelled") {
    World world;
    world.add("a", {0, 3});
    world.add("b", {3, 6}).script.step_time = 10s;
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    CHECK(world.peers[0]->open_sessions() == 1);
    const TimePoint start = world.loop.clock.now();
    world.loop.clock.call_at(world.loop.after(100ms), [&] { chain.close(); });
    const auto row = world.loop.run(chain.step(0, 4, Want::last_row));
    REQUIRE_FALSE(row);
    CHECK(row.error().code == Errc::cancelled);
    CHECK(world.loop.clock.now() - start <= 101ms);
    world.loop.pass(20ms);
    CHECK(world.peers[0]->open_sessions() == 0);
    CHECK(world.peers[1]->open_sessions() == 0);
    CHECK(world.loop.run(chain.step(0, 4, Want::last_row)).error().code == Errc::cancelled);
  }

  TEST_CASE("destroying a chain during a step is harmless") {
    World world;
    world.add("a", {0, 6}).script.step_time = 1s;
    world.connect();
    auto chain = std::make_unique<Chain>(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain->open()));
    auto step = chain->step(0, 4, Want::last_row);
    world.loop.clock.call_at(world.loop.after(100ms), [&] { chain.reset(); });
    const auto row = world.loop.run(std::move(step));
    REQUIRE_FALSE(row);
    CHECK(row.error().code == Errc::cancelled);
    world.loop.pass(10s);
    CHECK(world.peers[0]->open_sessions() == 0);
  }

  TEST_CASE("hops report the last step and all steps, and committed rows who did them") {
    World world;
    world.add("a", {0, 3});
    world.add("b", {3, 6});
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    REQUIRE(world.loop.run(chain.step(0, 16, Want::last_row)));
    REQUIRE(world.loop.run(chain.step(16, 1, Want::last_row)));
    const auto hops = chain.hops();
    REQUIRE(hops.size() == 2);
    CHECK(hops[0].address == "a:1");
    CHECK(hops[1].span == Span{3, 6});
    CHECK(hops[1].time.compute_us == 2'000);
    CHECK(hops[1].total_ms == doctest::Approx(9));  // three steps of 1 + 2 ms
    REQUIRE(chain.committed().size() == 1);
    CHECK(chain.committed()[0].begin == 0);
    CHECK(chain.committed()[0].end == 17);
    CHECK(chain.committed()[0].route.size() == 2);
    CHECK(world.set.view()[0].layer_time == 1ms);
  }

  TEST_CASE("a stage in this process comes first and is not dialled by others") {
    World world;
    ScriptedPeer local(world.network, "inside", {0, 4});
    auto [near, far] = net::make_pipe(world.loop.clock, "local", "driver");
    local.attach(std::move(far));
    REQUIRE(world.loop.run(world.set.add_local("local", near)));
    world.add("b", {2, 6});
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    const auto row = world.loop.run(chain.step(0, 9, Want::last_row));
    REQUIRE(row);
    CHECK(bytes_of(*row) == world.expected(9));
    CHECK(chain.hops()[0].address == "local");
  }

  TEST_CASE("an error of the inputs is the step's error, and the next step goes on") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    bool fails = true;
    Chain::Inputs inputs = [&](std::uint32_t from, std::uint32_t count) {
      struct Fail {
        static net::Task<Result<Payload>> run() { co_return Error{Errc::bad_payload, "test"}; }
      };
      return fails && from >= 16 ? Fail::run() : world.rows(from, count);
    };
    Chain chain(world.set, inputs, world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
    const auto failed = world.loop.run(chain.step(0, 30, Want::last_row));
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == Errc::bad_payload);
    fails = false;
    const std::uint32_t from = chain.positions();
    const auto row = world.loop.run(chain.step(from, 30 - from, Want::last_row));
    REQUIRE(row);
    CHECK(bytes_of(*row) == world.expected(30));
  }

  TEST_CASE("without peers for some layer open fails and names it") {
    World world;
    world.add("a", {0, 3});
    world.connect();
    Chain chain(world.set, world.inputs(), world.chain_options());
    const auto opened = world.loop.run(chain.open());
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::no_route);
    CHECK(opened.error().detail.starts_with("no peer holds layer 3"));
    world.loop.pass(1s);
    CHECK(world.peers[0]->open_sessions() == 0);
  }

  TEST_CASE("peers that were never dialled are dialled when a route is needed") {
    World world;
    world.add("a", {0, 6});
    Chain chain(world.set, world.inputs(), world.chain_options());
    REQUIRE(world.loop.run(chain.open()));
  }
}
