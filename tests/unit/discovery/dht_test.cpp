// Real DHT nodes on loopback: answers come when they come, so these wait, with a deadline.
#include "discovery/dht.hpp"

#include <chrono>
#include <functional>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "unit/discovery/samples.hpp"

namespace farmesh {
namespace {

using discovery::Dht;
using discovery::DhtItem;
using discovery::DhtOptions;
using discovery::RendezvousKey;
using namespace std::chrono_literals;

struct Nodes {
  asio::io_context context;
  decltype(asio::make_work_guard(context)) work = asio::make_work_guard(context);
  std::vector<std::unique_ptr<Dht>> all;

  Dht& add() {
    DhtOptions options;
    options.host = "127.0.0.1";
    if (!all.empty()) {
      options.bootstrap = {{"127.0.0.1:" + std::to_string(all.front()->port()), ""}};
    }
    auto node = Dht::start(context.get_executor(), options);
    REQUIRE(node);
    all.push_back(*std::move(node));
    return *all.back();
  }

  /// Asks again and again, as the directory does, until there is an answer.
  bool until(const std::function<bool()>& done, const std::function<void()>& ask) {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      ask();
      context.run_for(100ms);
    }
    return done();
  }
};

}  // namespace

TEST_SUITE("discovery/dht") {
  TEST_CASE("what one node announces and stores, another finds") {
    Nodes nodes;
    nodes.add();
    Dht& serving = nodes.add();
    Dht& looking = nodes.add();
    const auto key = discovery::rendezvous_key("far-mesh", test::some_model(), 0);
    const identity::NodeKey node = test::key_of(1);
    const DhtItem item = discovery::make_item(node, 7, "what it serves");

    bool found = false;
    std::optional<DhtItem> got;
    discovery::Rendezvous::Listener listener;
    listener.on_peers = [&](const RendezvousKey& of, const std::vector<std::string>& addresses) {
      if (of == key && !addresses.empty()) found = addresses.front() == "127.0.0.1:4321";
    };
    listener.on_item = [&](const DhtItem& one) { got = one; };
    looking.listen(listener);
    CHECK(nodes.until([&] { return found && got; },
                      [&] {
                        serving.announce(key, 4321);
                        serving.put(item);
                        looking.find(key);
                        looking.get(node.public_key());
                      }));
    REQUIRE(got);
    CHECK(got->sequence == 7);
    CHECK(got->value == "what it serves");
    CHECK(verify_item(*got));
  }

  TEST_CASE("the node that others began with keeps what they store, also when they are gone") {
    Nodes nodes;
    const Dht& first = nodes.add();
    const auto key = discovery::rendezvous_key("far-mesh", test::some_model(), 0);
    const identity::NodeKey node = test::key_of(3);
    for (int i = 0; i < 4; ++i) nodes.add();
    for (int i = 0; i < 5; ++i) {
      for (std::size_t at = 1; at < nodes.all.size(); ++at) nodes.all[at]->rejoin();
      nodes.context.run_for(50ms);
    }
    int copies = 0;
    discovery::Rendezvous::Listener listener;
    listener.on_stored = [&](const DhtItem&, int count) { copies = count; };
    nodes.all[1]->listen(listener);
    // On all, the first too. libtorrent finds the storing node itself among the others' answers.
    CHECK(nodes.until([&] { return copies == 5; },
                      [&] {
                        nodes.all[1]->announce(key, 4321);
                        nodes.all[1]->put(discovery::make_item(node, 7, "kept"));
                      }));
    nodes.all.erase(nodes.all.begin() + 1, nodes.all.end());

    Dht& looking = nodes.add();
    REQUIRE(first.port() == nodes.all.front()->port());
    bool found = false;
    bool got = false;
    listener = {};
    listener.on_peers = [&](const RendezvousKey&, const auto& peers) { found = !peers.empty(); };
    listener.on_item = [&](const DhtItem& item) { got = item.value == "kept"; };
    looking.listen(listener);
    CHECK(nodes.until([&] { return found && got; },
                      [&] {
                        looking.find(key);
                        looking.get(node.public_key());
                      }));
  }

  TEST_CASE("a newer sequence replaces an item, an older one does not") {
    Nodes nodes;
    nodes.add();
    Dht& serving = nodes.add();
    Dht& looking = nodes.add();
    const identity::NodeKey node = test::key_of(2);
    std::int64_t newest = 0;
    discovery::Rendezvous::Listener listener;
    listener.on_item = [&](const DhtItem& one) { newest = one.sequence; };
    looking.listen(listener);
    for (const std::int64_t sequence : {5, 8}) {
      CHECK(nodes.until([&] { return newest == sequence; },
                        [&] {
                          serving.put(discovery::make_item(node, sequence, "v"));
                          looking.get(node.public_key());
                        }));
    }
    int puts = 0;
    nodes.until([&] { return puts == 5; },
                [&] {
                  ++puts;
                  serving.put(discovery::make_item(node, 6, "old"));
                  looking.get(node.public_key());
                });
    CHECK(newest == 8);
  }

  TEST_CASE("a port that is taken is an error that says so") {
    Nodes nodes;
    Dht& first = nodes.add();
    DhtOptions options;
    options.host = "127.0.0.1";
    options.port = first.port();
    const auto second = Dht::start(nodes.context.get_executor(), options);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::io_error);
  }

  TEST_CASE("BitTorrent's own DHT is entered where that was asked for, and else nowhere") {
    DhtOptions options;
    options.bootstrap = {{"203.0.113.7:31337", ""}};
    CHECK(discovery::engine_options(options).routers.empty());
    CHECK(discovery::engine_options(options).bootstrap ==
          std::vector<std::string>{"203.0.113.7:31337"});
    options.public_dht = true;
    CHECK_FALSE(discovery::engine_options(options).routers.empty());
    CHECK(discovery::engine_options(options).bootstrap.size() == 1);
    CHECK_FALSE(discovery::engine_options(options).local);
  }

  TEST_CASE("where nodes meet depends on mesh, model and layers, each") {
    const auto key = discovery::rendezvous_key("far-mesh", test::some_model(), 0);
    CHECK(key == discovery::rendezvous_key("far-mesh", test::some_model(), 0));
    CHECK(key != discovery::rendezvous_key("lab", test::some_model(), 0));
    CHECK(key != discovery::rendezvous_key("far-mesh", ModelHash{{8}}, 0));
    CHECK(key != discovery::rendezvous_key("far-mesh", test::some_model(), 1));
    CHECK(discovery::rendezvous_key("far-mesh", test::some_model(), 1) !=
          discovery::rendezvous_key("far-mesh", test::some_model(), 11));
  }

  TEST_CASE("addresses of this machine and of private networks are told from public ones") {
    for (const char* address : {"127.0.0.1:1", "10.1.2.3:1", "192.168.0.1:1", "172.16.0.1:1",
                                "[::1]:1", "[fd00::1]:1", "localhost:1"}) {
      CAPTURE(address);
      CHECK(discovery::is_local_address(address));
    }
    for (const char* address : {"8.8.8.8:1", "172.32.0.1:1", "[2001:db8::1]:1", "example.org:1"}) {
      CAPTURE(address);
      CHECK_FALSE(discovery::is_local_address(address));
    }
  }
}

}  // namespace farmesh
