// Peers that refuse a session, for a while or for good.

#include <doctest/doctest.h>

#include "driver/chain.hpp"
#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using driver::Chain;

TEST_SUITE("driver/chain_open") {
  TEST_CASE("a busy peer is passed over for another, and asked again if there is none") {
    World world;
    ScriptedPeer& a = world.add("a", {0, 6});
    a.script.refuse_open = [](const wire::Open&) { return Error{Errc::busy, "full"}; };
    SUBCASE("another") {
      world.add("b", {0, 6});
      world.connect();
      world.set.report_success("a:1", {0, 6}, 6us, 1);  // so fast that it comes first
      Chain chain(world.set, world.inputs(), world.chain_options());
      REQUIRE(world.loop.run(chain.open()));
      CHECK(chain.hops()[0].address == "b:1");
      CHECK(a.seen.opens.size() == 1);
    }
    SUBCASE("room after a while") {
      world.connect();
      world.loop.clock.call_at(world.loop.after(3s), [&] { a.script.refuse_open = nullptr; });
      Chain chain(world.set, world.inputs(), world.chain_options());
      REQUIRE(world.loop.run(chain.open()));
      CHECK(a.seen.opens.size() > 3);
      CHECK(a.seen.opens.size() < 20);  // with growing pauses
    }
    SUBCASE("no room in time") {
      world.connect();
      const TimePoint start = world.loop.clock.now();
      Chain chain(world.set, world.inputs(), world.chain_options());
      const auto opened = world.loop.run(chain.open());
      REQUIRE_FALSE(opened);
      CHECK(opened.error().code == Errc::busy);
      CHECK(world.loop.clock.now() - start >= 10s);
      CHECK(world.loop.clock.now() - start <= 12s);
    }
  }

  TEST_CASE("a peer that refuses for good is not asked twice") {
    World world;
    ScriptedPeer& a = world.add("a", {0, 6});
    a.script.refuse_open = [](const wire::Open&) {
      return Error{Errc::weights_mismatch, "other weights"};
    };
    SUBCASE("another serves") {
      world.add("b", {0, 6});
      world.connect();
      world.set.report_success("a:1", {0, 6}, 6us, 1);  // so fast that it comes first
      Chain chain(world.set, world.inputs(), world.chain_options());
      REQUIRE(world.loop.run(chain.open()));
    }
    SUBCASE("nobody else is there") {
      world.connect();
      Chain chain(world.set, world.inputs(), world.chain_options());
      const auto opened = world.loop.run(chain.open());
      REQUIRE_FALSE(opened);
      CHECK(opened.error().code == Errc::no_route);
      CHECK(opened.error().detail.find("weights_mismatch: a:1") != std::string::npos);
    }
    CHECK(a.seen.opens.size() == 1);
  }

  TEST_CASE("a session of chosen nodes is served by nobody else, a loss included") {
    World world;
    const NodeId chosen{1}, other{2};
    ScriptedPeer& ours = world.add("a", {0, 6});
    ours.script.node_id = chosen;
    ScriptedPeer& theirs = world.add("b", {0, 6});
    theirs.script.node_id = other;
    world.connect();
    world.set.report_success("b:1", {0, 6}, 6us, 1);  // so fast that it would come first
    auto options = world.chain_options();
    driver::NodeChoice choice{{chosen}};
    SUBCASE("nobody else") {
      options.nodes = std::make_shared<const driver::NodeChoice>(choice);
      Chain chain(world.set, world.inputs(), options);
      REQUIRE(world.loop.run(chain.open()));
      CHECK(chain.hops()[0].address == "a:1");
      world.network.kill("a");
      const auto row = world.loop.run(chain.step(0, 3, wire::Want::last_row));
      REQUIRE_FALSE(row);
      CHECK(theirs.seen.opens.empty());
    }
    SUBCASE("others where none of them is left") {
      choice.others_too = true;
      options.nodes = std::make_shared<const driver::NodeChoice>(choice);
      Chain chain(world.set, world.inputs(), options);
      REQUIRE(world.loop.run(chain.open()));
      CHECK(chain.hops()[0].address == "a:1");
      world.network.kill("a");
      const auto row = world.loop.run(chain.step(0, 3, wire::Want::last_row));
      REQUIRE(row);
      CHECK(chain.hops()[0].address == "b:1");
    }
    SUBCASE("none of them is here") {
      choice.nodes = {NodeId{3}};
      options.nodes = std::make_shared<const driver::NodeChoice>(choice);
      Chain chain(world.set, world.inputs(), options);
      const auto opened = world.loop.run(chain.open());
      REQUIRE_FALSE(opened);
      CHECK(opened.error().code == Errc::no_route);
    }
  }

  TEST_CASE("a peer with other weights is the reason that is told when no route is left") {
    World world;
    world.add("a", {0, 6}).script.model_hash = ModelHash{{9}};
    Chain chain(world.set, world.inputs(), world.chain_options());
    const auto opened = world.loop.run(chain.open());
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::weights_mismatch);
    CHECK(opened.error().detail.starts_with("a:1"));
  }
}
