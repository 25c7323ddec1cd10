#include "unit/net/connection_sides.hpp"

namespace farmesh {
namespace {

using net::Connection;
using net::ConnectionOptions;
using test::ConnectionPtr;
using test::error_frame;
using test::frame_of;
using test::keep_answer;
using test::Loop;
using test::Pair;
using test::Scripted;
using test::Side;
using wire::Frame;
using wire::Verb;
using namespace std::chrono_literals;

}  // namespace

TEST_SUITE("net/connection hello") {
  TEST_CASE("both sides know each other after hello") {
    Pair pair;
    CHECK(pair.near.connection->remote().software == "far");
    CHECK(pair.far.connection->remote().software == "near");
    CHECK(pair.near.connection->version() == wire::kProtocolVersion);
    CHECK(pair.near.connection->address() == "far");
    CHECK(pair.near.connection->is_open());
  }

  TEST_CASE("a peer one version ahead or at this version is understood") {
    for (const int max_version : {int{wire::kProtocolVersion}, wire::kProtocolVersion + 1, 255}) {
      CAPTURE(max_version);
      Scripted accepting;
      accepting.accept();
      accepting.say_hello(false, wire::kProtocolVersion, max_version);
      accepting.loop.until([&] { return accepting.side.connection != nullptr; });
      CHECK(accepting.side.connection->version() == wire::kProtocolVersion);

      Scripted dialling;
      dialling.dial();
      dialling.say_hello(true, wire::kProtocolVersion, max_version);
      dialling.loop.until([&] { return dialling.connected.has_value(); });
      REQUIRE(*dialling.connected);
      CHECK(dialling.side.connection->version() == wire::kProtocolVersion);
    }
  }

  TEST_CASE("the next version of this build accepts this one") {
    Scripted accepting;
    accepting.accept(test::identity("next", 1, wire::kProtocolVersion + 1));
    accepting.say_hello(false, wire::kProtocolVersion, wire::kProtocolVersion);
    accepting.loop.until([&] { return accepting.side.connection != nullptr; });
    CHECK(accepting.side.connection->version() == wire::kProtocolVersion);
  }

  TEST_CASE("without a common version both sides learn it and nothing is open") {
    Scripted accepting;
    accepting.accept();
    accepting.say_hello(false, 7, 9);
    CHECK(accepting.told() == Errc::version_unsupported);
    CHECK_FALSE(accepting.side.connection);
    CHECK(accepting.side.closes.empty());

    Scripted dialling;
    dialling.dial();
    dialling.send(error_frame(0, Errc::version_unsupported));
    dialling.loop.until([&] { return dialling.connected.has_value(); });
    REQUIRE_FALSE(*dialling.connected);
    CHECK(dialling.connected->error().code == Errc::version_unsupported);
    CHECK(dialling.connected->error().detail == "told");
    CHECK(dialling.side.closes.empty());
  }

  TEST_CASE("a frame before hello breaks the protocol") {
    for (const Verb verb : {Verb::step, Verb::open, Verb::ping, Verb::generate}) {
      Scripted remote;
      remote.accept();
      remote.send(frame_of(verb, 1));
      CHECK(remote.told() == Errc::unexpected_verb);
      CHECK(remote.side.frames.empty());
    }
    Scripted dialled;
    dialled.dial();
    dialled.say_hello(false);  // a question where an answer is due
    CHECK(dialled.told() == Errc::unexpected_verb);
  }

  TEST_CASE("hello twice breaks the protocol") {
    Scripted remote;
    remote.open();
    remote.say_hello(false);
    CHECK(remote.told() == Errc::unexpected_verb);
    CHECK(remote.side.closes.size() == 1);
  }

  TEST_CASE("a hello that does not verify is refused") {
    Scripted remote;
    remote.accept();
    Frame frame = frame_of(Verb::hello);
    frame.header.assign(64, std::byte{0xff});
    remote.send(std::move(frame));
    CHECK(remote.told() == Errc::bad_header);
  }

  TEST_CASE("a remote that says nothing is given up after the hello timeout") {
    Scripted accepting;
    accepting.accept();
    accepting.loop.until([&] { return !accepting.heard.closes.empty(); });
    CHECK(accepting.loop.clock.now() == TimePoint{} + ConnectionOptions{}.hello_timeout);

    Scripted dialling;
    dialling.dial();
    dialling.loop.until([&] { return dialling.connected.has_value(); });
    CHECK(dialling.connected->error().code == Errc::timeout);
    CHECK(dialling.loop.clock.now() == TimePoint{} + 2s);  // the caller's own deadline
    dialling.loop.until([&] { return !dialling.heard.closes.empty(); });
  }

  TEST_CASE("a remote that goes before its hello is connection_lost") {
    Scripted dialling;
    dialling.dial();
    dialling.remote.reset();
    dialling.loop.until([&] { return dialling.connected.has_value(); });
    CHECK(dialling.connected->error().code == Errc::connection_lost);
  }

  TEST_CASE("a connection that nobody keeps closes") {
    Scripted remote;
    remote.accept();
    remote.side.connection = nullptr;
    Loop& loop = remote.loop;
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    test::Received heard;
    heard.listen_to(*near_end);
    Connection::accept(far_end, loop.clock, test::identity("far"), nullptr, nullptr,
                       [](const ConnectionPtr&) {});
    Frame frame = frame_of(Verb::hello);
    frame.header = wire::encode(wire::Hello{});
    REQUIRE(near_end->send(std::move(frame)));
    loop.until([&] { return !heard.closes.empty(); });
    CHECK(heard.frames.size() == 1);
  }
}

TEST_SUITE("net/connection frames") {
  TEST_CASE("requests, step replies and errors about a session go to the frame handler") {
    Scripted remote;
    remote.open();
    remote.send(frame_of(Verb::step));
    remote.send(frame_of(Verb::step, 0, true));
    remote.send(error_frame(0, Errc::next_hop_lost, true));
    remote.send(frame_of(Verb::generate, 4));
    remote.loop.until([&] { return remote.side.frames.size() == 4; });
    CHECK(remote.side.frames[2].verb == Verb::error);
    CHECK(remote.side.connection->is_open());
  }

  TEST_CASE("every frame of an exchange goes to the frame handler") {
    Pair pair;
    pair.far.on_frame = [](const ConnectionPtr& from, const Frame& frame) {
      for (int i = 0; i < 3; ++i) REQUIRE(from->reply(frame, Verb::token, {}));
      REQUIRE(from->reply_error(frame, {Errc::no_route, "in the middle"}));
    };
    Frame question = frame_of(Verb::generate, pair.near.connection->new_stream());
    const std::uint32_t stream = question.stream;
    REQUIRE(pair.near.connection->push(std::move(question)));
    pair.loop.until([&] { return pair.near.frames.size() == 4; });
    for (const Frame& frame : pair.near.frames) CHECK(frame.stream == stream);
    CHECK(pair.near.frames[3].verb == Verb::error);
    CHECK(pair.near.connection->new_stream() != stream);
  }

  TEST_CASE("an answer to a request that wants none is not sent") {
    Pair pair;
    REQUIRE(pair.far.connection->reply(frame_of(Verb::step), Verb::step, {}));
    REQUIRE(pair.far.connection->reply_error(frame_of(Verb::step), {Errc::busy, ""}));
    pair.loop.pass(1ms);
    CHECK(pair.near.frames.empty());
    CHECK(pair.near.connection->is_open());
  }

  TEST_CASE("fail tells the remote why, and both sides end with it") {
    Pair pair;
    pair.far.on_frame = [](const ConnectionPtr& from, const Frame&) {
      from->fail({Errc::bad_payload, "not a number"});
    };
    CHECK(pair.call().error().code == Errc::connection_lost);
    pair.until_closed();
    CHECK(pair.near.closes[0].code == Errc::bad_payload);
    CHECK(pair.near.closes[0].detail == "not a number");
    CHECK(pair.far.closes[0].code == Errc::bad_payload);
  }

  TEST_CASE("an error about the connection itself ends it with the remote's reason") {
    Scripted remote;
    remote.open();
    remote.send(error_frame(0, Errc::too_many_sessions));
    remote.loop.until([&] { return !remote.side.closes.empty(); });
    CHECK(remote.side.closes[0].code == Errc::too_many_sessions);
  }

  TEST_CASE("an error frame that does not verify breaks the protocol") {
    Scripted remote;
    remote.open();
    remote.send(frame_of(Verb::error));
    CHECK(remote.told() == Errc::bad_header);
  }

  TEST_CASE("a frame handler may drop the last reference to its connection") {
    Pair pair;
    const std::weak_ptr<Connection> weak = pair.far.connection;
    pair.far.on_frame = [&](const ConnectionPtr&, const Frame&) { pair.far.connection.reset(); };
    CHECK(pair.call().error().code == Errc::connection_lost);
    CHECK(weak.expired());
    CHECK(pair.far.closes.empty());
  }

  TEST_CASE("a close handler may drop the last reference to its connection") {
    Loop loop;
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    ConnectionPtr held;
    int closes = 0;
    Connection::accept(
        far_end, loop.clock, test::identity("far"), [](const auto&, const Frame&) {},
        [&](const ConnectionPtr&, const Error&) {
          held.reset();
          ++closes;
        },
        [&](const ConnectionPtr& ready) { held = ready; });
    Side near;
    const Result<ConnectionPtr> dialled = loop.run(
        Connection::connect_over(near_end, loop.clock, test::identity("near"), near.frame_handler(),
                                 near.close_handler(), loop.after(1s)));
    REQUIRE(dialled);
    (*dialled)->close();
    loop.until([&] { return closes == 1; });
    CHECK_FALSE(held);
  }

  TEST_CASE("frames of a flooding remote stay bounded by the link's queue") {
    Loop loop;
    net::LinkLimits limits;
    limits.max_queued_bytes = 64u << 10;
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far", limits);
    Side near, far;
    Connection::accept(far_end, loop.clock, test::identity("far"), far.frame_handler(),
                       far.close_handler(),
                       [&](const ConnectionPtr& ready) { far.connection = ready; });
    const Result<ConnectionPtr> dialled = loop.run(
        Connection::connect_over(near_end, loop.clock, test::identity("near"), near.frame_handler(),
                                 near.close_handler(), loop.after(1s)));
    REQUIRE(dialled);
    int sent = 0;
    Result<void> last;
    while (last && sent < 10'000) {
      last = (*dialled)->push(frame_of(Verb::step, 0, false, 1'000));
      if (last) ++sent;
    }
    REQUIRE_FALSE(last);
    CHECK(last.error().code == Errc::busy);
    CHECK((*dialled)->queued_bytes() <= limits.max_queued_bytes);
    loop.pass(1ms);
    CHECK(far.frames.size() == static_cast<std::size_t>(sent));
    CHECK((*dialled)->is_open());
  }
}

TEST_SUITE("net/connection keep-alive") {
  TEST_CASE("a quiet connection is pinged, and pings are answered with the load") {
    Loop loop;
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    Side near, far;
    auto who = test::identity("far");
    who.load = [] { return wire::Pong{0, 11, 22, 33}; };
    Connection::accept(far_end, loop.clock, std::move(who), far.frame_handler(),
                       far.close_handler(),
                       [&](const ConnectionPtr& ready) { far.connection = ready; });
    const Result<ConnectionPtr> dialled = loop.run(
        Connection::connect_over(near_end, loop.clock, test::identity("near"), near.frame_handler(),
                                 near.close_handler(), loop.after(1s)));
    REQUIRE(dialled);
    CHECK((*dialled)->remote_load().queued_rows == 0);
    loop.pass(100s);
    CHECK((*dialled)->is_open());
    CHECK(far.connection->is_open());
    CHECK((*dialled)->remote_load().queued_rows == 11);
    CHECK((*dialled)->remote_load().free_pages == 22);
    CHECK((*dialled)->remote_load().sessions == 33);
    CHECK((*dialled)->pending_calls() == 0);
    CHECK(near.frames.empty());
  }

  TEST_CASE("a connection that carries frames is not pinged") {
    Scripted remote;
    remote.open();
    for (int i = 0; i < 20; ++i) {
      remote.loop.pass(5s);
      remote.send(frame_of(Verb::step));
    }
    remote.loop.pass(1s);
    for (const Frame& frame : remote.heard.frames) CHECK(frame.verb != Verb::ping);
  }

  TEST_CASE("a remote that hangs is lost after a ping goes unanswered") {
    Scripted remote;
    remote.open();
    std::vector<Result<Frame>> answers;
    net::spawn(remote.loop.clock.executor(), "call",
               keep_answer(remote.side.connection->call(Verb::open, {}, {}, remote.loop.after(1h)),
                           answers));
    remote.loop.until([&] { return !remote.side.closes.empty(); });
    CHECK(remote.side.closes[0].code == Errc::connection_lost);
    CHECK(remote.heard.frames.back().verb == Verb::ping);
    const ConnectionOptions defaults;
    CHECK(remote.loop.clock.now() == TimePoint{} + defaults.ping_interval + defaults.ping_timeout);
    remote.loop.until([&] { return answers.size() == 1; });
    CHECK(answers[0].error().code == Errc::connection_lost);
  }

  TEST_CASE("a remote that answers no pings but sends frames is alive") {
    Scripted remote;
    remote.open();
    for (int i = 0; i < 20; ++i) {
      remote.loop.pass(15s);
      remote.send(frame_of(Verb::step));
    }
    remote.loop.pass(1s);
    CHECK(remote.side.connection->is_open());
  }

  TEST_CASE("the round trip is measured by hello and followed by pings") {
    Loop loop;
    net::SimNetwork network(loop.clock, {.latency = 30ms}, 1);
    const auto near_host = network.host("near");
    const auto far_host = network.host("far");
    Side near, far;
    const auto listener = *far_host->listen("far:1", [&](std::shared_ptr<net::Link> link) {
      Connection::accept(std::move(link), loop.clock, test::identity("far"), far.frame_handler(),
                         far.close_handler(),
                         [&](const ConnectionPtr& ready) { far.connection = ready; });
    });
    const Result<ConnectionPtr> dialled =
        loop.run(Connection::connect(*near_host, "far:1", test::identity("near"),
                                     near.frame_handler(), near.close_handler(), loop.after(1s)));
    REQUIRE(dialled);
    CHECK((*dialled)->round_trip() == 60ms);
    CHECK((*dialled)->address() == "far:1");
    network.set_latency("near", "far", 70ms);
    loop.pass(15s);
    CHECK((*dialled)->round_trip() == 70ms);  // 60 + (140 - 60) / 8
    CHECK(far.connection->round_trip() > 0ms);
  }

  TEST_CASE("a connection to a killed host ends one latency later") {
    Loop loop;
    net::SimNetwork network(loop.clock, {.latency = 30ms}, 1);
    const auto near_host = network.host("near");
    const auto far_host = network.host("far");
    Side near, far;
    const auto listener = *far_host->listen("far:1", [&](std::shared_ptr<net::Link> link) {
      Connection::accept(std::move(link), loop.clock, test::identity("far"), far.frame_handler(),
                         far.close_handler(),
                         [&](const ConnectionPtr& ready) { far.connection = ready; });
    });
    const Result<ConnectionPtr> dialled =
        loop.run(Connection::connect(*near_host, "far:1", test::identity("near"),
                                     near.frame_handler(), near.close_handler(), loop.after(1s)));
    REQUIRE(dialled);
    near.connection = *dialled;
    const TimePoint killed = loop.clock.now();
    network.kill("far");
    loop.until([&] { return !near.closes.empty(); });
    CHECK(loop.clock.now() - killed == 30ms);
    CHECK(near.closes[0].code == Errc::connection_lost);
    const Result<ConnectionPtr> again =
        loop.run(Connection::connect(*near_host, "far:1", test::identity("near"),
                                     near.frame_handler(), near.close_handler(), loop.after(1s)));
    CHECK(again.error().code == Errc::connection_refused);
  }
}

}  // namespace farmesh
