#include "discovery/directory.hpp"

#include <map>
#include <set>
#include <utility>

#include <doctest/doctest.h>

#include "unit/discovery/samples.hpp"
#include "unit/net/loop.hpp"
#include "wire/swarm.hpp"

namespace farmesh {
namespace {

using discovery::DhtItem;
using discovery::Directory;
using discovery::DirectoryOptions;
using discovery::NodeRecord;
using discovery::RecordFault;
using discovery::Rendezvous;
using discovery::RendezvousKey;
using net::Connection;
using test::Loop;
using wire::Verb;
using namespace std::chrono_literals;

/// A DHT without nodes: everybody writes into one table and is answered at once.
struct Board {
  std::map<RendezvousKey, std::set<std::string>> announced;
  std::map<identity::PublicKey, DhtItem> items;
};

class BoardRendezvous final : public Rendezvous {
 public:
  BoardRendezvous(Board& board, std::string host) : board_(board), host_(std::move(host)) {}
  void listen(Listener listener) override { listener_ = std::move(listener); }
  void rejoin() override { ++rejoined; }
  void announce(const RendezvousKey& key, std::uint16_t port) override {
    board_.announced[key].insert(host_ + ":" + std::to_string(port));
  }
  void find(const RendezvousKey& key) override {
    const auto& found = board_.announced[key];
    if (listener_.on_peers) listener_.on_peers(key, {found.begin(), found.end()});
  }
  void put(const DhtItem& item) override {
    board_.items[item.key] = item;
    if (listener_.on_stored) listener_.on_stored(item, 8);
  }
  void get(const identity::PublicKey& key) override {
    const auto found = board_.items.find(key);
    if (found != board_.items.end() && listener_.on_item) listener_.on_item(found->second);
  }

  int rejoined = 0;

 private:
  Board& board_;
  std::string host_;
  Listener listener_;
};

struct World {
  Loop loop;
  net::SimNetwork network{loop.clock, {5ms, 1ms, 0}, 1};
  Board board;

  std::int64_t unix_ms() const {
    return test::kNowMs + std::chrono::duration_cast<std::chrono::milliseconds>(
                              loop.clock.now().time_since_epoch())
                              .count();
  }
};

/// A process with a directory; with a span it serves and answers, as a peer does.
class Node {
 public:
  Node(World& world, std::uint8_t number, Span span, bool with_dht = true,
       std::size_t max_neighbours = 8)
      : host("n" + std::to_string(number)),
        key(test::key_of(number)),
        transport(world.network.host(host, key.id())),
        rendezvous(world.board, host) {
    DirectoryOptions options;
    options.model_hash = test::some_model();
    options.num_layers = 12;
    options.unix_ms = [&world] { return world.unix_ms(); };
    options.hello.node_id = key.id();
    options.max_neighbours = max_neighbours;
    directory = std::make_unique<Directory>(*transport, with_dht ? &rendezvous : nullptr, options);
    if (!span.empty()) serve(world, span);
    directory->start();
  }

  std::set<NodeId> seen() const {
    std::set<NodeId> ids;
    for (const auto& one : directory->view()) ids.insert(one->record.id);
    return ids;
  }

  std::string address() const { return host + ":1"; }

  /// Nobody is where it was.
  void move_to(World& world, const std::string& address) {
    told = address;
    listener.reset();
    for (const auto& connection : std::exchange(accepted, {})) connection->close();
    listen(world);
    directory->renew();
  }

  const std::string host;
  const identity::NodeKey key;
  std::unique_ptr<net::Transport> transport;
  BoardRendezvous rendezvous;
  std::unique_ptr<Directory> directory;
  std::unique_ptr<net::Listener> listener;
  std::set<std::shared_ptr<Connection>> accepted;
  std::string told = address();

 private:
  void listen(World& world) {
    wire::Hello hello;
    hello.node_id = key.id();
    auto listening = transport->listen(told, [this, &world, hello](auto link) {
      Connection::Identity identity;
      identity.hello = [hello] { return hello; };
      Connection::accept(
          std::move(link), world.loop.clock, std::move(identity),
          [this](const auto& from, wire::Frame frame) {
            if (frame.verb == Verb::swarm) directory->answer(from, frame);
          },
          [this](const auto& from, const Error&) { accepted.erase(from); },
          [this](const auto& from) { accepted.insert(from); });
    });
    REQUIRE(listening);
    listener = *std::move(listening);
  }

  void serve(World& world, Span span) {
    listen(world);
    directory->publish(key, 1, [this, span] {
      NodeRecord record = test::some_record(span);
      record.addresses = {told};
      return record;
    });
  }
};

std::set<NodeId> ids(const std::vector<Node*>& nodes) {
  std::set<NodeId> all;
  for (const Node* node : nodes) all.insert(node->key.id());
  return all;
}

}  // namespace

TEST_SUITE("discovery/directory") {
  TEST_CASE("a client finds the nodes of its model in the DHT") {
    World world;
    Node a(world, 1, {0, 4});
    Node b(world, 2, {4, 8});
    Node c(world, 3, {8, 12});
    Node client(world, 9, {});
    int changes = 0;
    client.directory->on_change([&] { ++changes; });
    world.loop.pass(2s);
    CHECK(client.seen() == ids({&a, &b, &c}));
    CHECK(changes > 0);
    CHECK(a.seen() == ids({&b, &c}));
    CHECK(client.directory->stats().neighbours == 3);
  }

  TEST_CASE("without a DHT one contact leads to all others") {
    World world;
    Node a(world, 1, {0, 4}, false);
    Node b(world, 2, {4, 8}, false);
    Node c(world, 3, {8, 12}, false);
    b.directory->add_contact(a.address());
    c.directory->add_contact(b.address());
    Node client(world, 9, {}, false);
    client.directory->add_contact(c.address());
    world.loop.pass(2min);
    CHECK(client.seen() == ids({&a, &b, &c}));
  }

  TEST_CASE("a view stays right for an hour in which nobody changes") {
    World world;
    Node a(world, 1, {0, 6});
    Node b(world, 2, {6, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    for (int minute = 0; minute < 60; ++minute) {
      world.loop.pass(1min);
      CAPTURE(minute);
      REQUIRE(client.seen() == ids({&a, &b}));
    }
  }

  TEST_CASE("a node that is killed leaves the view within five seconds of a failed contact") {
    World world;
    Node a(world, 1, {0, 6});
    Node b(world, 2, {6, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    REQUIRE(client.seen() == ids({&a, &b}));
    world.network.kill(b.host);
    b.directory.reset();  // it signs nothing more
    world.loop.pass(5s);
    CHECK(client.seen() == ids({&a}));
    world.loop.pass(1min);
    CHECK(client.seen() == ids({&a}));
  }

  TEST_CASE("a node whose neighbour died announces itself again at once, and only then") {
    World world;
    Node a(world, 1, {0, 6});
    Node b(world, 2, {6, 12});
    world.loop.pass(90s);
    const auto key = discovery::rendezvous_key("far-mesh", test::some_model(), 0);
    world.board.announced[key].clear();
    world.loop.pass(5s);
    CHECK(world.board.announced[key].empty());
    world.network.kill(b.host);  // which held the announcement, perhaps
    world.loop.pass(5s);
    CHECK(world.board.announced[key].contains(a.address()));
  }

  TEST_CASE("the nodes that a directory began with are greeted in each round") {
    World world;
    Node a(world, 1, {0, 12});
    world.loop.pass(2min);
    const int before = a.rendezvous.rejoined;
    world.loop.pass(2min);
    CHECK(a.rendezvous.rejoined >= before + 3);
  }

  TEST_CASE("a contact that failed elsewhere takes the node out at once, until it signs anew") {
    World world;
    Node a(world, 1, {0, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    client.directory->report_unreachable(a.key.id(), a.address());
    CHECK(client.seen().empty());
    world.loop.pass(65s);
    CHECK(client.seen() == ids({&a}));
  }

  TEST_CASE(
      "a node that went elsewhere, as when its relay died, is back seconds after the contact") {
    World world;
    Node a(world, 1, {0, 6});
    Node b(world, 2, {6, 12});
    Node client(world, 9, {}, true, /*max_neighbours=*/0);  // it hears of b by others alone
    world.loop.pass(2min);
    REQUIRE(client.seen() == ids({&a, &b}));
    const std::string before = b.told;
    for (const bool said_first : {true, false}) {
      CAPTURE(said_first);
      if (said_first) b.move_to(world, "n2:7");
      world.loop.pass(1s);
      client.directory->report_unreachable(b.key.id(), said_first ? before : "n2:7");
      CHECK(client.seen() == ids({&a}));
      if (!said_first) b.move_to(world, "n2:8");
      world.loop.pass(8s);
      CHECK(client.seen() == ids({&a, &b}));
      // What fails where it was before takes nobody out.
      client.directory->report_unreachable(b.key.id(), before);
      CHECK(client.seen() == ids({&a, &b}));
    }
  }

  TEST_CASE("a node that leaves says so, and is gone for all who ask") {
    World world;
    Node a(world, 1, {0, 6});
    Node b(world, 2, {6, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    bool left = false;
    const auto leave = [&]() -> net::Task<void> {
      co_await a.directory->leave(world.loop.after(1s));
      left = true;
    };
    net::spawn(world.loop.clock.executor(), "leave", leave());
    world.loop.until([&] { return left; });
    CHECK(world.board.items.at(a.key.public_key()).value.size() > 0);
    world.loop.pass(35s);
    CHECK(client.seen() == ids({&b}));
    CHECK(b.seen().empty());
  }

  TEST_CASE("a node that went silent is found dead by its expiry, two periods later at most") {
    World world;
    Node a(world, 1, {0, 6});
    Node b(world, 2, {6, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    REQUIRE(client.seen() == ids({&a, &b}));
    // Nothing is refused and no link ends: only its records stop.
    for (const char* host : {"n1", "n9"}) world.network.partition(host, "n2", true);
    world.board.items.erase(b.key.public_key());
    b.directory.reset();
    world.loop.pass(2min);
    CHECK(client.seen() == ids({&a}));
  }

  TEST_CASE("forged items and the records of others under a key are dropped and counted") {
    World world;
    Node a(world, 1, {0, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    REQUIRE(client.seen() == ids({&a}));
    const NodeRecord before = client.directory->find(a.key.id())->record;

    // Somebody stores nodes' items anew: one whose signature is not good, one of his own making.
    DhtItem forged = world.board.items.at(a.key.public_key());
    forged.sequence += 1'000'000;
    const auto deliver = [&](const DhtItem& item) {
      world.board.items[item.key] = item;
      client.rendezvous.get(item.key);
    };
    deliver(forged);
    CHECK(client.directory->stats().forged_items == 1);

    const identity::NodeKey liar = test::key_of(66);
    deliver(discovery::make_item(liar, 1, test::signed_by(1, test::some_record()).bytes));
    deliver(discovery::make_item(liar, 2, "rubbish"));
    NodeRecord absurd = test::some_record({0, 13});
    deliver(discovery::make_item(liar, 3, test::signed_by(66, absurd).bytes));
    NodeRecord future = test::some_record();
    future.not_before_ms = world.unix_ms() + 61'000;
    future.expires_ms = future.not_before_ms + 1'000;
    deliver(discovery::make_item(liar, 4, test::signed_by(66, future).bytes));

    const auto dropped = client.directory->stats().records.dropped;
    const auto count = [&](RecordFault fault) { return dropped[static_cast<std::size_t>(fault)]; };
    CHECK(count(RecordFault::foreign_id) == 1);
    CHECK(count(RecordFault::malformed) == 1);
    CHECK(count(RecordFault::absurd_span) == 1);
    CHECK(count(RecordFault::clock_off) == 1);
    CHECK(client.seen() == ids({&a}));
    CHECK(client.directory->find(a.key.id())->record.sequence == before.sequence);
  }

  TEST_CASE("addresses of strangers in the DHT cost a dial each and are not asked for long") {
    World world;
    Node a(world, 1, {0, 12});
    for (int i = 0; i < 500; ++i) {
      const auto key = discovery::rendezvous_key("far-mesh", test::some_model(), 0);
      world.board.announced[key].insert("nobody-" + std::to_string(i) + ":1");
    }
    Node client(world, 9, {});
    world.loop.pass(1min);
    CHECK(client.seen() == ids({&a}));
    CHECK(client.directory->stats().held == 1);
  }

  TEST_CASE("those who ask too often are told that this node is busy") {
    World world;
    Node a(world, 1, {0, 12});
    Node client(world, 9, {});
    world.loop.pass(2s);
    Connection::Identity identity;
    identity.hello = [&] {
      wire::Hello hello;
      hello.node_id = client.key.id();
      return hello;
    };
    const auto connection = world.loop.run(Connection::connect(
        *client.transport, a.address(), std::move(identity), [](const auto&, wire::Frame) {}, {},
        world.loop.after(1s)));
    REQUIRE(connection);
    wire::Swarm query;
    query.mesh = "far-mesh";
    int answered = 0;
    int busy = 0;
    const auto ask = [&]() -> net::Task<void> {
      auto calling =
          (*connection)->call(Verb::swarm, wire::encode(query), {}, world.loop.after(1s));
      const auto answer = co_await std::move(calling);
      if (answer) ++answered;
      if (!answer && answer.error().code == Errc::busy) ++busy;
    };
    for (int i = 0; i < 150; ++i) net::spawn(world.loop.clock.executor(), "ask", ask());
    world.loop.until([&] { return answered + busy == 150; });
    CHECK(busy >= 45);  // a hundred at once, and what a few milliseconds add
    CHECK(answered >= 95);
    CHECK(a.directory->stats().refused == static_cast<std::uint64_t>(busy));
    world.loop.pass(1s);
    query.mesh = "another";
    const auto refused = world.loop.run(
        (*connection)->call(Verb::swarm, wire::encode(query), {}, world.loop.after(1s)));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
  }
}

}  // namespace farmesh
