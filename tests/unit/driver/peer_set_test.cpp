#include "driver/peer_set.hpp"

#include <set>
#include <string>

#include <doctest/doctest.h>

#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;

namespace {

struct Handler final : driver::SessionHandler {
  void on_frame(const std::string& address, wire::Frame frame) override {
    frames.emplace_back(address, std::move(frame));
  }
  void on_peer_lost(const std::string& address, const Error& error) override {
    losses.emplace_back(address, error);
  }
  std::vector<std::pair<std::string, wire::Frame>> frames;
  std::vector<std::pair<std::string, Error>> losses;
};

SessionId session(std::uint8_t number) { return SessionId{{number}}; }

bool banned(driver::PeerSet& set, const std::string& address) {
  for (const auto& view : set.view()) {
    if (view.address == address) return view.banned;
  }
  FAIL("unknown peer");
  return false;
}

}  // namespace

TEST_SUITE("driver/peer_set") {
  TEST_CASE("connected peers are seen with what they said of themselves") {
    World world;
    world.add("a", {0, 2});
    world.add("b", {2, 6}).script.head = true;
    world.connect();
    const auto view = world.set.view();
    REQUIRE(view.size() == 2);
    CHECK(view[0].address == "a:1");
    CHECK(view[0].span == Span{0, 2});
    CHECK(view[1].numerics_class == "f32/stand-in");
    CHECK(view[1].round_trip >= 10ms);
    CHECK(view[1].round_trip <= 12ms);
    CHECK_FALSE(view[1].banned);
    CHECK(world.set.heads() == std::vector<std::string>{"b:1"});
    CHECK(world.set.service()->num_layers == kLayers);
  }

  TEST_CASE("a peer with other weights is refused by name") {
    World world;
    world.add("a", {0, 6}).script.model_hash = ModelHash{{1}};
    const auto failures = world.loop.run(world.set.connect_all(world.loop.after(5s)));
    REQUIRE(failures.size() == 1);
    CHECK(failures[0].first == "a:1");
    CHECK(failures[0].second.code == Errc::weights_mismatch);
    CHECK(failures[0].second.detail.starts_with("a:1 serves other weights"));
    CHECK(world.set.view().empty());
  }

  TEST_CASE("a peer of another numerics class than the first is refused") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    world.add("b", {0, 6}).script.numerics_class = "bf16/exact-2";
    const auto failures = world.loop.run(world.set.connect_all(world.loop.after(5s)));
    REQUIRE(failures.size() == 1);
    CHECK(failures[0].second.code == Errc::numerics_mismatch);
  }

  TEST_CASE("a peer of another class is seen and dialled only by who takes any class") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    world.add("b", {0, 6}).script.numerics_class = "bf16/exact-2";
    static_cast<void>(world.loop.run(world.set.connect_all(world.loop.after(5s))));
    CHECK(world.set.view().size() == 1);
    REQUIRE(world.set.view(true).size() == 2);
    CHECK(world.set.view(true)[1].numerics_class == "bf16/exact-2");
    CHECK_FALSE(world.loop.run(world.set.connection("b:1", world.loop.after(5s))));
    CHECK(world.loop.run(world.set.connection("b:1", world.loop.after(5s), true)));
  }

  TEST_CASE("refresh asks for load and round trip where what is known is old") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    world.loop.pass(1s);
    world.set.refresh(0s);
    world.loop.pass(1s);
    const auto view = world.set.view();
    CHECK(view[0].round_trip >= 10ms);
    CHECK(view[0].round_trip <= 12ms);
    CHECK(view[0].round_trip_age < 1s);
    CHECK(view[0].free_tokens == 0);  // a scripted peer promises none
    world.loop.pass(1h);
    CHECK(world.set.view()[0].load_age >= 1h);
  }

  TEST_CASE("the ways between peers are those that steps told of") {
    World world;
    world.add("a", {0, 3});
    world.add("b", {3, 6});
    world.connect();
    world.set.report_link("a:1", "b:1", 8ms);
    world.set.report_link("a:1", "nobody:1", 8ms);
    const auto links = world.set.links();
    REQUIRE(links.size() == 1);
    CHECK(links[0].from == 0);
    CHECK(links[0].to == 1);
    CHECK(links[0].way == 4ms);
  }

  TEST_CASE("a client that serves nothing is not a peer") {
    World world;
    world.add("a", {0, 0});
    const auto failures = world.loop.run(world.set.connect_all(world.loop.after(5s)));
    REQUIRE(failures.size() == 1);
    CHECK(failures[0].second.code == Errc::span_unavailable);
  }

  TEST_CASE("peers that cannot be reached are told, banned, and not dialled again at once") {
    World world;
    world.add("a", {0, 6});
    world.set.add("nobody:1");
    auto failures = world.loop.run(world.set.connect_all(world.loop.after(5s)));
    REQUIRE(failures.size() == 1);
    CHECK(failures[0].first == "nobody:1");
    CHECK(failures[0].second.code == Errc::connection_refused);
    failures = world.loop.run(world.set.connect_all(world.loop.after(5s)));
    CHECK(failures.empty());
    failures = world.loop.run(world.set.connect_all(world.loop.after(5s), true));
    CHECK(failures.size() == 1);
  }

  TEST_CASE("whom nobody answers for is told as unreachable, and nobody else") {
    World world;
    std::vector<std::string> unreachable;
    driver::PeerSetOptions options = World::set_options();
    options.on_unreachable = [&](const std::string& address) { unreachable.push_back(address); };
    driver::PeerSet set(*world.transport, options);
    world.add("well", {0, 6});
    world.add("refused", {0, 6}).script.model_hash = ModelHash{{1}};
    for (const char* address : {"well:1", "refused:1", "nobody:1"}) set.add(address);
    CHECK(world.loop.run(set.connect_all(world.loop.after(5s))).size() == 2);
    CHECK(unreachable == std::vector<std::string>{"nobody:1"});

    world.network.kill("well");
    world.loop.pass(1s);
    static_cast<void>(world.loop.run(set.connection("well:1", world.loop.after(5s))));
    CHECK(unreachable.back() == "well:1");
  }

  TEST_CASE("what a peer claims is in the view, its load until it was asked for it") {
    World world;
    world.add("a", {0, 6});
    world.set.report_claims("a:1", {"eu", true, 3ms, 7, 99});
    world.set.report_claims("nobody:1", {});
    world.connect();
    world.loop.pass(2s);
    const auto claimed = world.set.view().at(0);
    CHECK(claimed.place == "eu");
    CHECK(claimed.relayed);
    CHECK(claimed.claimed_layer_time == 3ms);
    CHECK(claimed.queued_rows == 7);
    CHECK(claimed.free_tokens == 99);
    CHECK(claimed.load_age >= 2s);
    world.set.refresh(0s);
    world.loop.pass(1s);
    CHECK(world.set.view().at(0).queued_rows != 7);
    CHECK(world.set.view().at(0).place == "eu");
  }

  TEST_CASE("a forgotten peer is out of the view, is not dialled, and may come back") {
    World world;
    world.add("a", {0, 6});
    world.add("b", {0, 6});
    world.connect();
    world.set.forget("b:1");  // connected: it stays
    CHECK(world.set.view().size() == 2);
    world.network.kill("b");
    world.loop.pass(1s);
    world.set.forget("b:1");
    world.set.forget("nobody:1");
    REQUIRE(world.set.view().size() == 1);
    CHECK(world.set.view()[0].address == "a:1");
    CHECK(world.loop.run(world.set.connect_all(world.loop.after(5s), true)).empty());
    world.set.report_claims("b:1", {});
    world.set.report_failure("b:1", {Errc::timeout, "late"});

    world.add("c", {0, 6});  // in its place
    world.network.revive("b");
    world.set.add("b:1");
    world.connect();
    std::set<std::string> seen;
    for (const route::PeerView& peer : world.set.view()) seen.insert(peer.address);
    CHECK(seen == std::set<std::string>{"a:1", "b:1", "c:1"});
  }

  TEST_CASE("where a peer was met is in the view, after it was lost as well") {
    World world;
    world.add("203.0.113.7", {0, 6});
    world.connect();
    CHECK(world.set.view().at(0).endpoint == "203.0.113.7:1");
    world.network.kill("203.0.113.7");
    world.loop.pass(1s);
    CHECK(world.set.view().at(0).endpoint == "203.0.113.7:1");
  }

  TEST_CASE("a silent address fails with timeout within the dial timeout") {
    World world;
    world.add("a", {0, 6});
    world.network.partition("driver", "a", true);
    const TimePoint before = world.loop.clock.now();
    const auto failures = world.loop.run(world.set.connect_all(world.loop.after(60s)));
    REQUIRE(failures.size() == 1);
    CHECK(failures[0].second.code == Errc::timeout);
    CHECK(world.loop.clock.now() - before <= 5s);
  }

  TEST_CASE("bans double with each failure in a row and end with a success") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    const Error error{Errc::compute_failed, "test"};
    world.set.report_failure("a:1", error);
    CHECK(banned(world.set, "a:1"));
    world.loop.pass(2s);
    CHECK_FALSE(banned(world.set, "a:1"));
    world.set.report_failure("a:1", error);
    world.loop.pass(3s);
    CHECK(banned(world.set, "a:1"));
    world.loop.pass(1s);
    CHECK_FALSE(banned(world.set, "a:1"));
    for (int i = 0; i < 40; ++i) world.set.report_failure("a:1", error);
    world.loop.pass(60s);
    CHECK_FALSE(banned(world.set, "a:1"));
    world.set.report_failure("a:1", error);
    world.set.report_success("a:1", {0, 6}, 6ms, 1);
    CHECK_FALSE(banned(world.set, "a:1"));
    CHECK(world.set.view()[0].layer_time == 1ms);
  }

  TEST_CASE("frames go to the chain of their session, losses to all") {
    World world;
    ScriptedPeer& a = world.add("a", {0, 6});
    world.connect();
    const auto one = std::make_shared<Handler>();
    const auto two = std::make_shared<Handler>();
    world.set.register_session(session(1), one);
    world.set.register_session(session(2), two);
    const auto connection = world.loop.run(world.set.connection("a:1", world.loop.after(1s)));
    REQUIRE(connection);
    // A step of an unknown session makes the peer tell an error about it.
    wire::Step step;
    step.session = session(2);
    step.count = 1;
    wire::Frame frame = frame_of(wire::Verb::step);
    frame.header = wire::encode(step);
    frame.payload = world.input_rows(0, 1);
    REQUIRE((*connection)->push(frame));
    world.loop.pass(100ms);
    CHECK(one->frames.empty());
    REQUIRE(two->frames.size() == 1);
    CHECK(two->frames[0].first == "a:1");
    CHECK(a.seen.steps.empty());

    world.set.unregister_session(session(2));
    REQUIRE((*connection)->push(frame));  // its answer finds nobody, and harms nobody
    world.loop.pass(100ms);
    CHECK(two->frames.size() == 1);

    world.network.kill("a");
    world.loop.pass(100ms);
    REQUIRE(one->losses.size() == 1);
    CHECK(one->losses[0].first == "a:1");
    CHECK(two->losses.empty());
    CHECK(world.set.heads().empty());
    CHECK(banned(world.set, "a:1"));
  }

  TEST_CASE("a peer that asks its driver for something loses its connection, and only that") {
    World world;
    world.add("a", {0, 6});
    auto transport = world.network.host("rogue");
    std::shared_ptr<net::Connection> rogue;
    auto listener = transport->listen("rogue:1", [&](std::shared_ptr<net::Link> link) {
      net::Connection::Identity who;
      who.hello = [] {
        wire::Hello hello;
        hello.service.model_hash = kModelHash;
        hello.service.span = {0, 6};
        hello.service.num_layers = kLayers;
        hello.service.hidden_size = kHidden;
        hello.service.residual = DType::f32;
        hello.service.numerics_class = "f32/stand-in";
        return hello;
      };
      net::Connection::accept(
          std::move(link), world.loop.clock, who, [](const auto&, wire::Frame) {},
          [](const auto&, const Error&) {}, [&](const auto& ready) { rogue = ready; });
    });
    world.set.add("rogue:1");
    world.connect();
    const auto handler = std::make_shared<Handler>();
    world.set.register_session(session(1), handler);
    wire::Frame frame = frame_of(wire::Verb::close);
    frame.header = wire::encode(wire::Close{session(1)});
    REQUIRE(rogue->push(frame));
    world.loop.pass(100ms);
    REQUIRE(handler->losses.size() == 1);
    CHECK(handler->losses[0].first == "rogue:1");
    CHECK(handler->losses[0].second.code == Errc::unexpected_verb);
    CHECK_FALSE(banned(world.set, "a:1"));
  }

  TEST_CASE("two who want the same peer share one dial") {
    World world;
    world.add("a", {0, 6});
    std::vector<std::shared_ptr<net::Connection>> got;
    struct Ask {
      static net::Task<void> run(driver::PeerSet& set, TimePoint deadline,
                                 std::vector<std::shared_ptr<net::Connection>>& got) {
        auto asking = set.connection("a:1", deadline);
        const auto connection = co_await std::move(asking);
        REQUIRE(connection);
        got.push_back(*connection);
      }
    };
    for (int i = 0; i < 3; ++i) {
      net::spawn(world.loop.clock.executor(), "ask",
                 Ask::run(world.set, world.loop.after(1s), got));
    }
    world.loop.until([&] { return got.size() == 3; });
    CHECK(got[0] == got[1]);
    CHECK(got[1] == got[2]);
  }

  TEST_CASE("disconnecting a silent peer tells every session at once") {
    World world;
    world.add("a", {0, 6});
    world.connect();
    const auto handler = std::make_shared<Handler>();
    world.set.register_session(session(1), handler);
    world.set.disconnect("a:1", {Errc::timeout, "silent"});
    REQUIRE(handler->losses.size() == 1);
    CHECK(handler->losses[0].second.code == Errc::timeout);
    world.loop.pass(1s);
    CHECK(handler->losses.size() == 1);  // the end of the link is not news
    world.set.disconnect("a:1", {Errc::timeout, "silent"});
    CHECK(handler->losses.size() == 1);
  }

  TEST_CASE("a stage in this process is seen as one that peers cannot reach") {
    World world;
    ScriptedPeer local(world.network, "inside", {0, 3});
    auto [near, far] = net::make_pipe(world.loop.clock, "local", "driver");
    local.attach(std::move(far));
    REQUIRE(world.loop.run(world.set.add_local("local", near)));
    REQUIRE(world.set.view().size() == 1);
    CHECK_FALSE(world.set.view()[0].reachable_by_peers);
    near->close({Errc::closed, "test"});
    world.loop.pass(1s);
    CHECK(world.set.view().empty());
    CHECK_FALSE(world.loop.run(world.set.connection("local", world.loop.after(1s))));
  }
}
