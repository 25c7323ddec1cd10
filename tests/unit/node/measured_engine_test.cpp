#include "node/measured_engine.hpp"

#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include "model/stand_in_engine.hpp"

namespace farmesh::node {

TEST_SUITE("node/measured_engine") {
  TEST_CASE("the speed of a layer is that of passes of one row, as soon as there is one") {
    using std::chrono::microseconds;
    LayerSpeed speed;
    CHECK(speed.layer_us() == 0);
    speed.passed(microseconds(800), 8, 2);
    CHECK(speed.layer_us() == 50);
    speed.passed(microseconds(800), 1, 4);
    CHECK(speed.layer_us() == 200);
    speed.passed(microseconds(80), 8, 1);  // shared among rows: not what one takes
    CHECK(speed.layer_us() == 200);
    speed.passed(microseconds(10), 0, 0);
    CHECK(speed.layer_us() == 200);
    LayerSpeed quick;
    quick.passed(std::chrono::nanoseconds(3), 1, 3);
    CHECK(quick.layer_us() == 1);  // 0 would say that nobody measured
  }

  TEST_CASE("a pass that something else delayed hardly changes the speed") {
    using std::chrono::microseconds;
    LayerSpeed speed;
    speed.passed(microseconds(9'000), 1, 1);
    for (std::uint32_t pass = 1; pass < LayerSpeed::kFirstPasses; ++pass) {
      speed.passed(microseconds(pass == 3 ? 160 : 5'000), 1, 1);
    }
    CHECK(speed.layer_us() == 160);
    speed.passed(microseconds(100'000), 1, 1);
    CHECK(speed.layer_us() == 180);
    for (int pass = 0; pass < 200; ++pass) speed.passed(microseconds(1'000), 1, 1);
    CHECK(speed.layer_us() > 990);  // what stays so is believed
    for (int pass = 0; pass < 200; ++pass) speed.passed(microseconds(100), 1, 1);
    CHECK(speed.layer_us() < 110);
  }

  TEST_CASE("what was measured before holds until many passes say otherwise") {
    using std::chrono::microseconds;
    LayerSpeed speed;
    speed.assume(200);
    CHECK(speed.layer_us() == 200);
    speed.passed(microseconds(9'000), 8, 1);
    CHECK(speed.layer_us() == 200);
    speed.passed(microseconds(9'000), 1, 1);  // the first touch of weights and caches, perhaps
    CHECK(speed.layer_us() == 225);
    for (int pass = 0; pass < 200; ++pass) speed.passed(microseconds(100), 1, 1);
    CHECK(speed.layer_us() < 110);
  }

  TEST_CASE("what it computes is what the engine inside computes, measured") {
    model::StandInOptions options;
    options.blocks = {0, 2};
    const auto plain = model::make_stand_in_engine(options);
    const auto speed = std::make_shared<LayerSpeed>();
    MeasuredEngine measured(model::make_stand_in_engine(options), speed);
    CHECK(measured.info().blocks == plain->info().blocks);

    const std::size_t bytes = 3 * plain->info().hidden_size * bytes_of(plain->info().residual);
    const std::vector<std::byte> input(bytes);
    std::vector<std::byte> one(bytes), other(bytes);
    std::vector<std::uint32_t> pages(4);
    std::iota(pages.begin(), pages.end(), 0u);
    const auto run = [&](model::StageEngine& engine, std::vector<std::byte>& output) {
      REQUIRE(engine.reserve_pages(4));
      const model::SequenceRows rows{pages, 0, 3, input, output};
      REQUIRE(engine.forward({0, 2}, {&rows, 1}));
    };
    run(*plain, one);
    run(measured, other);
    CHECK(one == other);
    CHECK(speed->layer_us() > 0);
  }
}

}  // namespace farmesh::node
