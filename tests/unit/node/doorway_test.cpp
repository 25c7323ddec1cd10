// How a node learns who gets in to it, and what it does when nobody does: over real sockets.
#include "node/doorway.hpp"

#include <optional>

#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "net/tcp_address.hpp"
#include "net/tcp_transport.hpp"
#include "unit/discovery/samples.hpp"
#include "unit/net/real_loop.hpp"

namespace farmesh::node {
namespace {

using namespace std::chrono_literals;
using ConnectionPtr = std::shared_ptr<net::Connection>;

struct World : test::RealLoop {
  World() { patience = 30s; }
};

/// A process that serves, with a directory and a doorway.
struct Node {
  struct Kind {
    std::string announced;  // empty: where it listens
    std::uint32_t relay_sessions = 4;
    std::chrono::milliseconds recheck{600'000};
  };

  Node(World& w, std::uint8_t number, const std::vector<std::string>& contacts, Kind kind,
       bool by_name = false)
      : world(w),
        key(test::key_of(number)),
        transport(net::make_tcp_transport(w.context, *w.clock, key)) {
    listen();
    discovery::DirectoryOptions options;
    options.model_hash = test::some_model();
    options.num_layers = 12;
    directory = std::make_unique<discovery::Directory>(*transport, nullptr, options);
    for (const std::string& contact : contacts) directory->add_contact(contact);
    if (by_name) kind.announced = "localhost" + address().substr(address().rfind(':'));
    open_doorway(kind);
    directory->on_change([this] { doorway->look_again(); });
    directory->publish(key, 1, [this] {
      discovery::NodeRecord record = test::some_record();
      record.addresses = doorway->ways().addresses;
      record.relay = doorway->ways().relay;
      record.relays = doorway->relays();
      return record;
    });
    directory->start();
    doorway->start();
  }
  /// As a process that is killed, to others.
  void die() {
    alive = false;
    listener.reset();
    transport->relay()->allow({});
    for (const ConnectionPtr& guest : guests) guest->close();
  }

  void listen() {
    auto listening = transport->listen(
        "127.0.0.1:0", [this](std::shared_ptr<net::Link> link) { welcome(std::move(link)); });
    REQUIRE(listening);
    listener = *std::move(listening);
  }

  void welcome(std::shared_ptr<net::Link> link) {
    net::Connection::Identity identity;
    identity.hello = [] { return wire::Hello(); };
    net::Connection::accept(
        std::move(link), *world.clock, std::move(identity),
        [this](const ConnectionPtr& from, const wire::Frame& frame) {
          if (!alive) return;
          if (frame.verb == wire::Verb::swarm) return directory->answer(from, frame);
          doorway->answer(from, frame);
        },
        {}, [this](const ConnectionPtr& ready) { guests.push_back(ready); });
  }

  void open_doorway(const Kind& kind) {
    DoorwayOptions options;
    options.announced = kind.announced.empty() ? address() : kind.announced;
    options.port = net::parse_address(address())->port;
    options.relaying.sessions = kind.relay_sessions;
    options.recheck = kind.recheck;
    Doorway::Events events;
    events.on_ways = [this] {
      ++changes;
      directory->renew();
    };
    events.on_link = [this](std::shared_ptr<net::Link> link) { welcome(std::move(link)); };
    events.listens = [this] { return listens; };
    doorway =
        std::make_unique<Doorway>(*transport, *directory, std::move(options), std::move(events));
  }

  std::string address() const { return listener->address(); }
  /// Where others would dial it, by what they heard.
  static std::string heard_by(const Node& other, const Node& who) {
    const auto record = other.directory->find(who.key.id());
    return record ? discovery::dial_address(record->record) : std::string();
  }

  World& world;
  const identity::NodeKey key;
  std::unique_ptr<net::Transport> transport;
  std::unique_ptr<net::Listener> listener;
  std::unique_ptr<discovery::Directory> directory;
  std::unique_ptr<Doorway> doorway;
  std::vector<ConnectionPtr> guests;
  bool listens = true;
  bool alive = true;
  int changes = 0;
};

/// A port of this machine where nobody listens. Nobody else is given it while `keeper` lives.
struct ShutPort {
  explicit ShutPort(World& world) : keeper(world.context) {
    keeper.open(asio::ip::tcp::v4());
    keeper.bind({asio::ip::address_v4::loopback(), 0});
  }
  std::uint16_t port() const { return keeper.local_endpoint().port(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }
  asio::ip::tcp::acceptor keeper;
};

/// A node that tells a wrong address, and whose right one is shut as well.
std::unique_ptr<Node> hidden_node(World& world, std::uint8_t number, const ShutPort& shut,
                                  const std::vector<std::string>& contacts) {
  Node::Kind kind;
  kind.announced = shut.address();
  auto node = std::make_unique<Node>(world, number, contacts, kind);
  node->listener.reset();
  return node;
}

}  // namespace

TEST_SUITE("node/doorway") {
  TEST_CASE("a node that two others reach keeps its address") {
    World world;
    Node first(world, 1, {}, {});
    Node second(world, 2, {first.address()}, {});
    Node third(world, 3, {first.address()}, {});
    const std::string id = to_string(third.key.id());
    world.until([&] {
      return first.doorway->ways().addresses.size() == 1 &&
             Node::heard_by(second, third) == third.address() + "/p2p/" + id;
    });
    CHECK(third.doorway->ways() == Doorway::Ways{{third.address()}, {}});
    CHECK(third.doorway->relays());
    CHECK(third.changes == 0);
  }

  TEST_CASE("a node that tells a wrong address tells the one where others see and reach it") {
    World world;
    const ShutPort shut(world);
    Node first(world, 1, {}, {});
    Node second(world, 2, {first.address()}, {});
    Node::Kind mistaken;
    mistaken.announced = shut.address();
    Node third(world, 3, {first.address()}, mistaken);
    world.until([&] { return third.changes > 0; });
    CHECK(third.doorway->ways() == Doorway::Ways{{third.address()}, {}});
    const std::string id = to_string(third.key.id());
    world.until([&] { return Node::heard_by(first, third) == third.address() + "/p2p/" + id; });
  }

  TEST_CASE("a name that leads to the node is told, its number of today is not") {
    World world;
    Node first(world, 1, {}, {});
    Node second(world, 2, {first.address()}, {});
    Node third(world, 3, {first.address()}, {}, /*by_name=*/true);
    const std::string name = "localhost" + third.address().substr(third.address().rfind(':'));
    const std::string there = name + "/p2p/" + to_string(third.key.id());
    world.until([&] {
      return third.doorway->bandwidth_kbps() > 0 && Node::heard_by(first, third) == there;
    });
    CHECK(third.doorway->ways() == Doorway::Ways{{name}, {}});
    CHECK(third.changes == 0);
    const auto link = world.run(first.transport->dial(there, world.clock->now() + 5s));
    REQUIRE_MESSAGE(link, link.error().to_string());
  }

  TEST_CASE("a name that leads to another's address is not told: others met another key there") {
    World world;
    Node first(world, 1, {}, {});
    Node second(world, 2, {first.address()}, {});
    Node::Kind mistaken;
    mistaken.announced = "localhost" + second.address().substr(second.address().rfind(':'));
    Node third(world, 3, {first.address()}, mistaken);
    world.until([&] { return third.changes > 0; });
    CHECK(third.doorway->ways() == Doorway::Ways{{third.address()}, {}});
    // Whoever believed it meanwhile met another key too, and leaves third alone until it says more.
    const std::string id = to_string(third.key.id());
    const auto met = world.run(
        first.transport->dial(mistaken.announced + "/p2p/" + id, world.clock->now() + 5s));
    REQUIRE_FALSE(met);
    CHECK(met.error().code == Errc::identity_mismatch);
    world.until([&] { return Node::heard_by(first, third) == third.address() + "/p2p/" + id; });
  }

  TEST_CASE("a port that the router opened is tried, and told when it is a way in") {
    World world;
    const ShutPort shut(world);
    Node first(world, 1, {}, {});
    const auto third = hidden_node(world, 3, shut, {});
    // As if the router sent this port on to the node's.
    third->listen();
    third->doorway->mapped({1, net::parse_address(third->address())->port, "UPnP"});
    third->directory->add_contact(first.address());
    world.until([&] { return third->changes > 0; });
    CHECK(third->doorway->ways() == Doorway::Ways{{third->address()}, {}});
  }

  TEST_CASE("a node that nobody reaches is met through a relay, under its own key") {
    World world;
    const ShutPort shut(world);
    Node first(world, 1, {}, {});
    Node second(world, 2, {first.address()}, {});
    const auto third = hidden_node(world, 3, shut, {first.address()});
    world.until([&] { return !third->doorway->ways().relay.empty(); });
    CHECK(third->doorway->ways().addresses.empty());
    CHECK_FALSE(third->doorway->relays());
    world.until(
        [&] { return Node::heard_by(second, *third).find("/p2p-circuit") != std::string::npos; });

    const auto link =
        world.run(second.transport->dial(Node::heard_by(second, *third), world.clock->now() + 5s));
    REQUIRE_MESSAGE(link, link.error().to_string());
    CHECK((*link)->identity().remote == third->key.id());
  }

  TEST_CASE("when its relay ends, a hidden node goes to another and tells of it") {
    World world;
    const ShutPort shut(world);
    Node first(world, 1, {}, {});
    Node second(world, 2, {first.address()}, {});
    const auto third = hidden_node(world, 3, shut, {first.address(), second.address()});
    world.until([&] {
      return !third->doorway->ways().relay.empty() && third->directory->view().size() == 2;
    });
    const std::string before = third->doorway->ways().relay;
    (before.starts_with(first.address() + "/") ? first : second).die();
    world.until([&] {
      const std::string now = third->doorway->ways().relay;
      return !now.empty() && now != before;
    });
  }

  TEST_CASE("where nobody relays there is no way in, and nothing is told") {
    World world;
    const ShutPort shut(world);
    Node::Kind unwilling;
    unwilling.relay_sessions = 0;
    Node first(world, 1, {}, unwilling);
    const auto third = hidden_node(world, 3, shut, {first.address()});
    world.until([&] { return third->changes > 0; });
    CHECK(third->doorway->ways() == Doorway::Ways{});
  }

  TEST_CASE("alone, or while its door is shut for a move, a node keeps the address it was given") {
    World world;
    const ShutPort shut(world);
    Node::Kind kind;
    kind.announced = shut.address();
    kind.recheck = 50ms;
    Node alone(world, 1, {}, kind);
    Node moving(world, 2, {alone.address()}, kind);
    moving.listens = false;
    const TimePoint until = world.clock->now() + 500ms;
    bool over = false;
    world.clock->call_at(until, [&over] { over = true; });
    world.until([&] { return over; });
    CHECK(moving.doorway->ways() == Doorway::Ways{{shut.address()}, {}});
    CHECK(moving.changes == 0);
  }
}

}  // namespace farmesh::node
