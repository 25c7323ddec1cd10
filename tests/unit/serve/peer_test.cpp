#include "serve/peer.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

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
using test::names_of;
using test::Pair;
using test::session_id;
using test::Solo;
using test::Tokens;

}  // namespace

TEST_SUITE("serve/peer") {
  TEST_CASE("hello tells what the peer serves") {
    Pair pair;
    const wire::Hello& hello = pair.driver.to(pair.address)->remote();
    CHECK(hello.listen_address == "a:1");
    CHECK(hello.service.model_id == "stand-in");
    CHECK(hello.service.model_hash == test::kModel);
    CHECK(hello.service.numerics_class == "f32/stand-in");
    CHECK(hello.service.span == kAllLayers);
    CHECK(hello.service.num_layers == 6);
    CHECK(hello.service.hidden_size == 16);
    CHECK(hello.service.residual == DType::f32);
    CHECK(hello.service.page_tokens == 4);
    CHECK_FALSE(hello.service.head);
  }

  TEST_CASE("three peers compute what one engine with all layers does") {
    Chain chain;
    chain.open();
    Solo solo;
    const Tokens prompt = test::text(1, 9);
    CHECK(chain.run(0, prompt) == solo.run(0, embed(prompt)));
    for (std::uint32_t i = 0; i < 12; ++i) {
      CHECK(chain.run(9 + i, {i + 3}) == solo.run(9 + i, embed({i + 3})));
    }
    chain.driver.step(chain[0].address, chain.driver.step_message(21, chain.route()), embed({4}));
    const auto reply = chain.driver.next_reply();
    CHECK(reply.from == chain[2].address);
    REQUIRE(reply.message.times.size() == 3);
    for (const wire::HopTime& time : reply.message.times) {
      CHECK(time.compute_us == 10'000);
      CHECK(time.queue_us == 0);
      CHECK(time.batch_rows == 1);
    }
    CHECK(chain[0].peer->stats().steps == 14);
    CHECK(chain[0].peer->stats().rows == 22);
    CHECK(chain[0].peer->stats().forwarded_bytes == 22 * kRowBytes);
    CHECK(chain[0].peer->stats().sessions == 1);
    CHECK(chain[0].peer->stats().connections == 2);
    CHECK(chain[2].peer->stats().forwarded_bytes == 0);
  }

  TEST_CASE("many sessions over one chain stay apart") {
    Chain chain;
    std::map<std::uint32_t, Solo> solos;
    for (std::uint32_t session = 0; session < 8; ++session) chain.open(1, session);
    for (std::uint32_t position = 0; position < 5; ++position) {
      for (std::uint32_t session = 0; session < 8; ++session) {
        chain.driver.step(chain[0].address,
                          chain.driver.step_message(position, chain.route(), 1, session),
                          embed({session * 7 + position}));
      }
      for (int i = 0; i < 8; ++i) {
        const auto reply = chain.driver.next_reply();
        const std::uint32_t session = reply.message.session.bytes[4];
        CHECK(reply.rows == solos[session].run(position, embed({session * 7 + position})));
      }
    }
    CHECK(chain[1].log->forwards < 20);  // of 40 steps
  }

  TEST_CASE("the driver gets the rows it wants") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    const Tokens ids = test::text(2, 12);
    const Bytes expected = Solo().run(0, embed(ids));
    const auto ask = [&](std::uint32_t position, wire::Want want, bool replay) {
      auto message = pair.driver.step_message(position);
      message.want = want;
      message.replay = replay;
      const Payload rows = embed({ids.begin() + position, ids.begin() + position + 3});
      pair.driver.step(pair.address, message, rows);
      const auto reply = pair.driver.next_reply();
      CHECK(reply.message.count == 3);
      CHECK(reply.message.replay == replay);
      CHECK(reply.rows.size() == reply.message.rows * kRowBytes);
      return reply.rows;
    };
    CHECK(ask(0, wire::Want::nothing, false).empty());
    CHECK(ask(3, wire::Want::last_row, false) ==
          Bytes(expected.begin() + 5 * kRowBytes, expected.begin() + 6 * kRowBytes));
    CHECK(ask(6, wire::Want::all_rows, true).empty());
    CHECK(ask(9, wire::Want::all_rows, false) ==
          Bytes(expected.begin() + 9 * kRowBytes, expected.end()));
  }

  TEST_CASE("what a peer does not serve is refused by name") {
    Pair pair;
    const auto refused = [&](auto change) {
      wire::Open open = pair.driver.open_message(kAllLayers);
      change(open);
      const auto reply = pair.driver.open(pair.address, open);
      return reply ? Errc::ok : reply.error().code;
    };
    CHECK(refused([](auto& open) { open.model_hash = {{9}}; }) == Errc::weights_mismatch);
    CHECK(refused([](auto& open) { open.numerics_class = "bf16"; }) == Errc::numerics_mismatch);
    CHECK(refused([](auto& open) { open.span = {0, 7}; }) == Errc::span_unavailable);
    CHECK(refused([](auto& open) { open.max_positions = 0; }) == Errc::invalid_argument);
    CHECK(refused([](auto& open) { open.max_positions = 1 << 20; }) == Errc::no_cache_space);
    CHECK(refused([](auto& open) { open.numerics_class = "f32/stand-in"; }) == Errc::ok);

    const auto ask = [&](wire::Verb verb, wire::HeaderBytes header) {
      const auto answer = pair.driver.call(pair.address, verb, std::move(header));
      return answer ? Errc::ok : answer.error().code;
    };
    CHECK(ask(wire::Verb::swarm, {}) == Errc::unsupported);
    CHECK(ask(wire::Verb::generate, wire::encode(wire::Generate{session_id(1)})) ==
          Errc::head_unavailable);
    CHECK(pair.driver.history(pair.address, 99).error().code == Errc::session_unknown);
    CHECK(ask(wire::Verb::truncate, wire::encode(wire::Truncate{session_id(99)})) ==
          Errc::session_unknown);
    CHECK(ask(wire::Verb::close, wire::encode(wire::Close{session_id(99)})) == Errc::ok);
    // Asks for the receipts of no session at all: no driver of ours does.
    CHECK(ask(wire::Verb::receipt, {}) == Errc::connection_lost);
  }

  TEST_CASE("a step that cannot run is told to the driver, and the session goes on") {
    Pair pair;
    WorkerLimits limits;
    REQUIRE(pair.driver.open(pair.address, kAllLayers));
    const auto told = [&](wire::Step message, const Payload& rows) {
      pair.driver.step(pair.address, std::move(message), rows);
      const auto error = pair.driver.next_error();
      CHECK(error.message.session == session_id(kSession));
      return error.message;
    };
    Solo solo;
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1, 2}));
    CHECK(pair.driver.next_reply().rows == solo.run(0, embed({1, 2})));

    const auto twice = told(pair.driver.step_message(0), embed({1, 2}));
    CHECK(twice.code == Errc::position_gap);
    CHECK(twice.epoch == 1);
    CHECK(twice.position == 0);
    CHECK(told(pair.driver.step_message(3), embed({1})).code == Errc::position_gap);
    CHECK(told(pair.driver.step_message(2, {}, 0), embed({1})).code == Errc::stale_epoch);
    CHECK(told(pair.driver.step_message(126), embed({1, 2, 3})).code == Errc::invalid_argument);
    auto message = pair.driver.step_message(2);
    message.dtype = DType::bf16;
    CHECK(told(message, embed({1})).code == Errc::bad_shape);
    message = pair.driver.step_message(2);
    message.count = 2;
    CHECK(told(message, embed({1})).code == Errc::bad_shape);
    message = pair.driver.step_message(2);
    message.times.resize(wire::kMaxHops);
    CHECK(told(message, embed({1})).code == Errc::invalid_argument);
    AlignedBuffer infinite(kRowBytes);
    std::fill_n(reinterpret_cast<std::uint32_t*>(infinite.data()), 16, 0x7F800000u);
    CHECK(told(pair.driver.step_message(2), Payload(std::move(infinite))).code ==
          Errc::bad_payload);

    pair.driver.step(pair.address, pair.driver.step_message(2), embed({3}));
    CHECK(pair.driver.next_reply().rows == solo.run(2, embed({3})));
    CHECK(pair.driver.closes.empty());
  }

  TEST_CASE("a stranger's step for a session that nobody opened is answered on its own link") {
    Pair pair;
    pair.driver.step(pair.address, pair.driver.step_message(4, {}, 3), embed({1}));
    const auto told = pair.driver.next_error();
    CHECK(told.message.code == Errc::session_unknown);
    CHECK(told.message.session == session_id(kSession));
    CHECK(told.message.epoch == 3);
    CHECK(told.message.position == 4);
    CHECK(pair.driver.closes.empty());
  }

  TEST_CASE("a step that waited beyond its budget is dropped") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, kAllLayers, 1, 1));
    REQUIRE(pair.driver.open(pair.address, kAllLayers, 1, 2));
    pair.driver.step(pair.address, pair.driver.step_message(0, {}, 1, 1), embed({1}));
    pair.loop.pass(7ms);  // its pass runs now
    auto late = pair.driver.step_message(0, {}, 1, 2);
    late.budget_ms = 2;
    pair.driver.step(pair.address, late, embed({1}));
    const auto told = pair.driver.next_error();
    CHECK(told.message.code == Errc::deadline_passed);
    CHECK(told.message.session == session_id(2));
    late.budget_ms = 20;
    pair.driver.replies.clear();
    pair.driver.step(pair.address, late, embed({1}));
    CHECK(pair.driver.next_reply().message.session == session_id(2));
  }

  TEST_CASE("a flood of one session is busy, and another session does not notice") {
    WorkerLimits limits;
    limits.window_steps = 4;
    Pair pair({}, limits);
    REQUIRE(pair.driver.open(pair.address, kAllLayers, 1, 1));
    Driver other(pair.loop, pair.network, "driver2");
    REQUIRE(other.open(pair.address, kAllLayers, 1, 2));
    for (std::uint32_t i = 0; i < 100; ++i) {
      pair.driver.step(pair.address, pair.driver.step_message(i, {}, 1, 1), embed({1}));
    }
    other.step(pair.address, other.step_message(0, {}, 1, 2), embed({5}));
    CHECK(other.next_reply().rows == Solo().run(0, embed({5})));
    CHECK(pair.loop.clock.now().time_since_epoch() < 100ms);
    CHECK(pair.driver.next_error().message.code == Errc::busy);
    pair.loop.pass(1s);
    CHECK(pair.driver.replies.size() == 4);
    CHECK(pair.driver.errors.size() == 95);
    CHECK(other.errors.empty());
  }

  TEST_CASE("close frees the pages at once, also while a pass runs") {
    Chain chain;
    const std::uint32_t all = chain[0].free_pages();
    chain.open();
    CHECK(chain[0].free_pages() == all - 32);
    chain.driver.step(chain[0].address, chain.driver.step_message(0, chain.route()), embed({1}));
    chain.loop.pass(8ms);  // the pass at the first peer runs
    for (std::size_t i = 0; i < 3; ++i) {
      chain.driver.push(chain[i].address, wire::Verb::close,
                        wire::encode(wire::Close{session_id(kSession)}));
    }
    chain.loop.pass(6ms);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(chain[i].free_pages() == all);
      CHECK(chain[i].peer->stats().sessions == 0);
    }
    chain.loop.pass(1s);
    CHECK(chain.driver.replies.empty());
    CHECK(chain.driver.errors.empty());
  }

  TEST_CASE("a newer epoch steps back, and what was sent beyond is forgotten") {
    Chain chain;
    chain.open();
    Solo solo;
    chain.run(0, {1, 2, 3, 4, 5, 6});
    solo.run(0, embed({1, 2, 3, 4}));
    CHECK(chain.run(4, {50, 51}, 2) == solo.run(4, embed({50, 51})));
    CHECK(chain.driver.history(chain[0].address)->stored_end == 6);

    const auto answer = chain.driver.call(chain[0].address, wire::Verb::truncate,
                                          wire::encode(wire::Truncate{session_id(kSession), 3, 5}));
    REQUIRE(answer);
    const auto history = chain.driver.history(chain[0].address);
    REQUIRE(history);
    CHECK(history->positions == 5);
    CHECK(history->stored_begin == 0);
    CHECK(history->stored_end == 5);
    CHECK(chain.driver.history(chain[1].address)->positions == 6);
  }

  TEST_CASE("a prefix that was found by name was never sent from here for this session") {
    Chain chain;
    const Tokens prompt = test::text(6, 10);
    const auto open = [&](std::uint32_t session) {
      std::uint32_t held = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        auto message = chain.driver.open_message(Chain::kSpans[i], 1, session);
        message.page_names = names_of(prompt);
        held = chain.driver.open(chain[i].address, message)->held_positions;
      }
      return held;
    };
    CHECK(open(kSession) == 0);
    const Bytes whole = chain.run(0, prompt);
    CHECK(open(9) == 8);
    chain.driver.step(chain[0].address, chain.driver.step_message(8, chain.route(), 1, 9),
                      embed({prompt[8], prompt[9]}));
    const auto reply = chain.driver.next_reply();
    CHECK(reply.rows == Bytes(whole.begin() + 8 * kRowBytes, whole.end()));
    const auto history = chain.driver.history(chain[0].address, 9);
    REQUIRE(history);
    CHECK(history->positions == 10);
    CHECK(history->stored_begin == 8);
    CHECK(history->stored_end == 10);
  }
}

}  // namespace farmesh::serve
