#include "serve/peer.hpp"

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
using test::bytes_of;
using test::Chain;
using test::Driver;
using test::embed;
using test::kAllLayers;
using test::kRowBytes;
using test::kSession;
using test::Loop;
using test::names_of;
using test::Node;
using test::session_id;
using test::Solo;
using test::Tokens;

/// One peer with all layers and a driver.
struct Pair {
  explicit Pair(PeerOptions options = {}, WorkerLimits limits = {},
                GenerateService* generate = nullptr)
      : node(loop, network, "a", kAllLayers, options, limits, generate) {}

  Loop loop;
  net::SimNetwork network{loop.clock, {5ms, 0ms, 0}, 1};
  Node node;
  Driver driver{loop, network};
  const std::string& address = node.address;
};

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
    CHECK(ask(wire::Verb::receipt, {}) == Errc::unsupported);
    CHECK(ask(wire::Verb::generate, wire::encode(wire::Generate{session_id(1)})) ==
          Errc::head_unavailable);
    CHECK(pair.driver.history(pair.address, 99).error().code == Errc::session_unknown);
    CHECK(ask(wire::Verb::truncate, wire::encode(wire::Truncate{session_id(99)})) ==
          Errc::session_unknown);
    CHECK(ask(wire::Verb::close, wire::encode(wire::Close{session_id(99)})) == Errc::ok);
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
