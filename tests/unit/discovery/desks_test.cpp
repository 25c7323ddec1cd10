// What a node does for those who ask whether they are reached, or cannot be: over real sockets.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "discovery/reach_desk.hpp"
#include "discovery/relay_desk.hpp"
#include "net/relay.hpp"
#include "net/tcp_address.hpp"
#include "net/tcp_transport.hpp"
#include "unit/net/real_loop.hpp"

namespace farmesh::discovery {
namespace {

using namespace std::chrono_literals;
using ConnectionPtr = std::shared_ptr<net::Connection>;

using World = test::RealLoop;

/// A process that listens, and answers at its desks.
struct Node {
  explicit Node(World& w)
      : world(w),
        transport(net::make_tcp_transport(w.context, *w.clock, key)),
        reach(*transport),
        relay(*transport) {
    auto listening = transport->listen("127.0.0.1:0", [this](std::shared_ptr<net::Link> link) {
      net::Connection::accept(
          std::move(link), *world.clock, says(""),
          [this](const ConnectionPtr& from, const wire::Frame& frame) {
            if (frame.verb == wire::Verb::reach) return reach.answer(from, frame);
            relay.answer(from, frame);
          },
          {}, [this](const ConnectionPtr& ready) { guests.push_back(ready); });
    });
    REQUIRE(listening);
    listener = *std::move(listening);
  }

  static net::Connection::Identity says(std::string announced) {
    net::Connection::Identity identity;
    identity.hello = [announced = std::move(announced)] {
      wire::Hello hello;
      hello.listen_address = announced;
      return hello;
    };
    return identity;
  }

  ConnectionPtr call_on(Node& other, const std::string& announced = {}) {
    auto connected = world.run(net::Connection::connect(
        *transport, other.listener->address(), says(announced),
        [this](const ConnectionPtr&, wire::Frame frame) { heard.push_back(std::move(frame)); }, {},
        world.clock->now() + 5s));
    REQUIRE(connected);
    return *connected;
  }

  template <class Reply, class Message>
  Result<Reply> ask(const ConnectionPtr& whom, wire::Verb verb, const Message& message) {
    const auto answer =
        world.run(whom->call(verb, wire::encode(message), {}, world.clock->now() + 5s));
    if (!answer) return answer.error();
    return wire::decode<Reply>(answer->header);
  }
  Result<wire::ReachReply> ask_reach(const ConnectionPtr& whom, const std::string& address) {
    return ask<wire::ReachReply>(whom, wire::Verb::reach, wire::Reach{address});
  }
  Result<wire::RelayReply> ask_relay(const ConnectionPtr& whom, const NodeId& node) {
    return ask<wire::RelayReply>(whom, wire::Verb::relay, wire::Relay{node});
  }
  void allow(std::uint32_t sessions) {
    net::RelayLimits limits;
    limits.sessions = sessions;
    transport->relay()->allow(limits);
  }

  World& world;
  identity::NodeKey key = identity::NodeKey::generate();
  std::unique_ptr<net::Transport> transport;
  ReachDesk reach;
  RelayDesk relay;
  std::unique_ptr<net::Listener> listener;
  std::vector<ConnectionPtr> guests;
  std::vector<wire::Frame> heard;
};

/// Where nobody listens.
std::string shut_address(World& world) {
  const Node gone(world);
  return gone.listener->address();
}

}  // namespace

TEST_SUITE("discovery/reach_desk") {
  TEST_CASE("who can be dialled is told so, and where it was seen to come from") {
    World world;
    Node asker(world);
    Node asked(world);
    const auto reply = asker.ask_reach(asker.call_on(asked), asker.listener->address());
    REQUIRE_MESSAGE(reply, reply.error().to_string());
    CHECK(reply->reached);
    CHECK(reply->seen == "127.0.0.1");
  }

  TEST_CASE("nobody there, or another key, is not reached") {
    World world;
    Node asker(world);
    Node asked(world);
    Node other(world);
    const ConnectionPtr connection = asker.call_on(asked);
    const auto nobody = asker.ask_reach(connection, shut_address(world));
    REQUIRE(nobody);
    CHECK_FALSE(nobody->reached);
    const auto somebody = asker.ask_reach(connection, other.listener->address());
    REQUIRE(somebody);
    CHECK_FALSE(somebody->reached);
    CHECK(asked.reach.dials() == 2);
  }

  TEST_CASE("only the asker's own address is dialled, or the public one it announced") {
    World world;
    Node asker(world);
    Node asked(world);
    const ConnectionPtr connection = asker.call_on(asked, "10.1.2.3:80");
    for (const char* address : {"10.1.2.3:80", "127.0.0.2:80", "198.51.100.7:80", "localhost:80",
                                "example.org:80", "127.0.0.1:0", "nonsense", ""}) {
      const auto reply = asker.ask_reach(connection, address);
      CAPTURE(address);
      REQUIRE(reply);
      CHECK_FALSE(reply->reached);
    }
    CHECK(asked.reach.dials() == 0);

    CHECK(may_reach("203.0.113.7:9", "203.0.113.7", ""));
    CHECK(may_reach("198.51.100.7:80", "203.0.113.7", "198.51.100.7:80"));
    CHECK(may_reach("[::ffff:203.0.113.7]:9", "203.0.113.7", ""));
    CHECK_FALSE(may_reach("198.51.100.7:81", "203.0.113.7", "198.51.100.7:80"));
    CHECK_FALSE(may_reach("192.168.1.1:80", "203.0.113.7", "192.168.1.1:80"));
    CHECK_FALSE(may_reach("127.0.0.1:80", "203.0.113.7", "127.0.0.1:80"));
    CHECK_FALSE(may_reach("[::1]:80", "203.0.113.7", "[::1]:80"));
    CHECK_FALSE(may_reach("0.0.0.0:80", "203.0.113.7", "0.0.0.0:80"));
    CHECK_FALSE(may_reach("224.0.0.1:80", "203.0.113.7", "224.0.0.1:80"));
    CHECK_FALSE(may_reach("example.org:80", "203.0.113.7", "example.org:80"));
    CHECK_FALSE(may_reach("203.0.113.7:9", "", ""));
  }

  TEST_CASE("one key is dialled a few times, then told quota") {
    World world;
    Node asker(world);
    Node asked(world);
    Node another(world);
    const ConnectionPtr connection = asker.call_on(asked);
    for (int i = 0; i < 4; ++i) REQUIRE(asker.ask_reach(connection, asker.listener->address()));
    const auto fifth = asker.ask_reach(connection, asker.listener->address());
    REQUIRE_FALSE(fifth);
    CHECK(fifth.error().code == Errc::quota);
    CHECK(asked.reach.dials() == 4);
    CHECK(another.ask_reach(another.call_on(asked), another.listener->address()));
  }

  TEST_CASE("one address is dialled for a few keys, then told quota") {
    World world;
    Node asked(world);
    std::vector<std::unique_ptr<Node>> askers;
    int refused = 0;
    for (int i = 0; i < 20; ++i) {
      Node& asker = *askers.emplace_back(std::make_unique<Node>(world));
      const auto reply = asker.ask_reach(asker.call_on(asked), asker.listener->address());
      if (!reply) CHECK(reply.error().code == Errc::quota);
      refused += reply ? 0 : 1;
    }
    CHECK(refused >= 1);
    CHECK(asked.reach.dials() + static_cast<std::uint64_t>(refused) == 20);
  }

  TEST_CASE("a question that came through a relay is refused: nobody sees where it is from") {
    CHECK(numeric_host("127.0.0.1:9/p2p-circuit").empty());
    CHECK(numeric_host(net::circuit_address("127.0.0.1:9", NodeId{1})).empty());
    CHECK(numeric_host("[::ffff:127.0.0.1]:9") == "127.0.0.1");
    CHECK(numeric_host("127.0.0.1:9/p2p/" + to_string(NodeId{1})) == "127.0.0.1");
  }
}

TEST_SUITE("discovery/relay_desk") {
  TEST_CASE("who asks for a node that is kept meets it through the relay") {
    World world;
    Node dialler(world);
    Node relay(world);
    Node hidden(world);
    relay.allow(4);
    const ConnectionPtr standing = hidden.call_on(relay);
    REQUIRE(hidden.ask_relay(standing, {}));
    CHECK(relay.relay.kept() == 1);

    std::optional<Result<std::shared_ptr<net::Link>>> dialled;
    const std::string address = net::circuit_address(relay.listener->address(), hidden.key.id());
    net::spawn(world.context.get_executor(), "dial",
               World::keep(dialler.transport->dial(address, world.clock->now() + 5s), dialled));
    world.until([&] { return !hidden.heard.empty(); });
    const auto brought = wire::decode<wire::Relay>(hidden.heard[0].header);
    REQUIRE(brought);
    CHECK(brought->node == dialler.key.id());
    const auto met = world.run(hidden.transport->accept_through(
        relay.listener->address(), brought->ticket, world.clock->now() + 5s));
    REQUIRE_MESSAGE(met, met.error().to_string());
    world.until([&] { return dialled.has_value(); });
    REQUIRE(*dialled);
    CHECK((**dialled)->identity().remote == hidden.key.id());
    CHECK((*met)->identity().remote == dialler.key.id());
  }

  TEST_CASE("a node that is not kept, or no longer, is refused") {
    World world;
    Node dialler(world);
    Node relay(world);
    relay.allow(4);
    const ConnectionPtr connection = dialler.call_on(relay);
    const auto unknown = dialler.ask_relay(connection, NodeId{1});
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().code == Errc::connection_refused);
    const NodeId id = [&] {
      Node hidden(world);
      REQUIRE(hidden.ask_relay(hidden.call_on(relay), {}));
      return hidden.key.id();
    }();
    world.until([&] { return relay.relay.kept() == 0; });
    const auto gone = dialler.ask_relay(connection, id);
    REQUIRE_FALSE(gone);
    CHECK(gone.error().code == Errc::connection_refused);
    CHECK(relay.transport->relay()->stats().pairs == 0);
  }

  TEST_CASE("a relay keeps as many as it may, and who is no relay keeps nobody") {
    World world;
    Node relay(world);
    Node first(world);
    Node second(world);
    const ConnectionPtr one = first.call_on(relay);
    const ConnectionPtr two = second.call_on(relay);
    CHECK(first.ask_relay(one, {}).error().code == Errc::unsupported);
    relay.allow(1);
    REQUIRE(first.ask_relay(one, {}));
    REQUIRE(first.ask_relay(one, {}));  // again is no other
    CHECK(second.ask_relay(two, {}).error().code == Errc::quota);
  }

  TEST_CASE("tickets are not given without end") {
    World world;
    Node relay(world);
    Node hidden(world);
    Node dialler(world);
    relay.allow(100);
    const ConnectionPtr standing = hidden.call_on(relay);
    REQUIRE(hidden.ask_relay(standing, {}));
    const ConnectionPtr connection = dialler.call_on(relay);
    int given = 0;
    std::optional<Error> refusal;
    while (given < 30 && !refusal) {
      const auto reply = dialler.ask_relay(connection, hidden.key.id());
      if (!reply) refusal = reply.error();
      given += reply ? 1 : 0;
    }
    REQUIRE(refusal);
    CHECK(refusal->code == Errc::quota);
    CHECK(given <= 8 + 5);
    CHECK(relay.transport->relay()->stats().pairs == static_cast<std::uint32_t>(given));
  }
}

}  // namespace farmesh::discovery
