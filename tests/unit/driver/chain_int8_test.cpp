// Sessions whose rows travel in int8.

#include <doctest/doctest.h>

#include "driver/chain.hpp"
#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using driver::Chain;
using driver::ChainEvent;
using wire::Want;

namespace {

/// The last row after each of some steps through three peers; `after(world, step)` follows each.
std::vector<std::vector<std::byte>> rows_through(
    World& world, Activations activations,
    const std::function<void(World&, std::uint32_t)>& after = {}) {
  world.add("a", {0, 2});
  world.add("b", {2, 4});
  world.add("c", {4, 6});
  world.connect();
  driver::ChainOptions options = world.chain_options();
  options.activations = activations;
  Chain chain(world.set, world.inputs(), options, world.record());
  REQUIRE(world.loop.run(chain.open()));
  std::vector<std::vector<std::byte>> rows;
  for (std::uint32_t position = 0; position < 30; ++position) {
    const std::uint32_t from = position == 0 ? 0 : position + 20;
    const auto row = world.loop.run(chain.step(from, position == 0 ? 21 : 1, Want::last_row));
    if (!row) FAIL_CHECK(row.error().to_string());
    REQUIRE(row);
    CHECK(row->size() == kRowBytes);
    rows.push_back(bytes_of(*row));
    if (after) after(world, position);
  }
  return rows;
}

std::vector<std::byte> rounded(ByteView rows) {
  const auto packed = wire::pack_rows(rows, kHidden, DType::f32);
  REQUIRE(packed);
  const auto count = static_cast<std::uint32_t>(rows.size() / kRowBytes);
  const auto back = wire::unpack_rows(packed->view(), count, kHidden, DType::f32);
  REQUIRE(back);
  return bytes_of(*back);
}

/// What three engines in a row make of `input`, rounded before each and after the last.
std::vector<std::byte> by_hand(const Payload& input) {
  std::vector<std::byte> rows = rounded(input.view());
  for (const Span span : {Span{0, 2}, Span{2, 4}, Span{4, 6}}) {
    model::StandInOptions options;
    options.blocks = span;
    const auto engine = model::make_stand_in_engine(options);
    REQUIRE(engine->reserve_pages(kPages));
    std::vector<std::uint32_t> pages(kPages);
    std::iota(pages.begin(), pages.end(), 0u);
    std::vector<std::byte> output(rows.size());
    const model::SequenceRows sequence{
        pages, 0, static_cast<std::uint32_t>(rows.size() / kRowBytes), rows, output};
    REQUIRE(engine->forward(span, {&sequence, 1}));
    rows = rounded(output);
  }
  return rows;
}

}  // namespace

TEST_SUITE("driver/chain_int8") {
  TEST_CASE("rows are rounded where they travel, and nowhere else") {
    World exact_world;
    World world;
    std::size_t steps = 0;
    world.network.on_frame([&](const std::string&, const std::string&, const wire::Frame& frame) {
      if (frame.verb != wire::Verb::step || frame.payload.empty()) return;
      ++steps;
      CHECK(frame.payload.size() % wire::packed_row_bytes(kHidden) == 0);
    });
    const auto exact = rows_through(exact_world, Activations::residual);
    const auto travelled = rows_through(world, Activations::int8);
    CHECK(exact != travelled);
    CHECK(steps > 100);
    const std::vector<std::byte> all = by_hand(world.input_rows(0, 50));
    for (std::size_t i = 0; i < travelled.size(); ++i) {
      const auto row = std::span(all).subspan((20 + i) * kRowBytes, kRowBytes);
      CHECK(std::equal(row.begin(), row.end(), travelled[i].begin(), travelled[i].end()));
    }
  }

  TEST_CASE("a peer that is lost is replaced, and the rows are those of a calm run") {
    World calm;
    const auto expected = rows_through(calm, Activations::int8);
    for (const std::string lost : {"a", "b", "c"}) {
      CAPTURE(lost);
      World world;
      const auto rows = rows_through(world, Activations::int8, [&](World& w, std::uint32_t step) {
        if (step != 7) return;
        w.add("d", lost == "a" ? Span{0, 2} : lost == "b" ? Span{2, 4} : Span{4, 6});
        w.connect();
        w.network.kill(lost);
      });
      CHECK(rows == expected);
      CHECK(world.count(ChainEvent::Kind::replaced) == 1);
      CHECK(world.count(ChainEvent::Kind::replayed) == 1);
    }
  }

  TEST_CASE("a spare that is kept warm takes over with the same rows") {
    World calm;
    const auto expected = rows_through(calm, Activations::int8);
    World world;
    world.add("d", {0, 2});
    world.add("e", {2, 4});
    world.add("f", {4, 6});
    world.connect();
    driver::ChainOptions options = world.chain_options();
    options.activations = Activations::int8;
    options.warm_standby = true;
    world.add("a", {0, 2});
    world.add("b", {2, 4});
    world.add("c", {4, 6});
    world.connect();
    Chain chain(world.set, world.inputs(), options, world.record());
    REQUIRE(world.loop.run(chain.open()));
    const auto first = world.loop.run(chain.step(0, 21, Want::last_row));
    REQUIRE(first);
    for (std::uint32_t step = 1; step < 30; ++step) {
      if (step == 20) {
        CHECK(world.count(ChainEvent::Kind::standby) == 3);
        const std::string host = chain.hops()[1].address.substr(0, 1);
        world.network.kill(host);
      }
      const auto row = world.loop.run(chain.step(step + 20, 1, Want::last_row));
      REQUIRE(row);
      CHECK(bytes_of(*row) == expected[step]);
    }
    CHECK(world.count(ChainEvent::Kind::replaced) == 1);
  }

  TEST_CASE("a peer of an older version, which takes no int8, is passed over, and named if alone") {
    World world;
    world.add("a", {0, 6}).script.knows_int8 = false;
    world.connect();
    driver::ChainOptions options = world.chain_options();
    options.activations = Activations::int8;
    Chain alone(world.set, world.inputs(), options);
    const auto refused = world.loop.run(alone.open());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::no_route);
    CHECK(refused.error().detail.find("takes no rows in int8") != std::string::npos);
    CHECK(world.peers[0]->seen.steps.empty());

    world.add("b", {0, 6});
    world.connect();
    options.session.bytes[0] = 2;
    Chain chain(world.set, world.inputs(), options);
    REQUIRE(world.loop.run(chain.open()));
    CHECK(world.loop.run(chain.step(0, 3, Want::last_row)));
    CHECK(chain.hops()[0].address.substr(0, 1) == "b");
  }

  TEST_CASE("a peer that answers blocks that cannot be is replaced") {
    World world;
    ScriptedPeer& a = world.add("a", {0, 6});
    a.script.spoil = [](wire::StepReply&, Payload& rows) {
      std::vector<std::byte> bytes = bytes_of(rows);
      bytes[1] = std::byte{0x80};  // a scale below zero
      rows = Payload::copy_of(bytes);
    };
    world.connect();
    driver::ChainOptions options = world.chain_options();
    options.activations = Activations::int8;
    Chain chain(world.set, world.inputs(), options);
    REQUIRE(world.loop.run(chain.open()));
    world.add("b", {0, 6});
    world.connect();
    REQUIRE(world.loop.run(chain.step(0, 3, Want::last_row)));
    CHECK(chain.hops()[0].address.substr(0, 1) == "b");
  }
}
