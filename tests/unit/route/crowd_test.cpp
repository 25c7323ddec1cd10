#include <map>
#include <random>
#include <set>

#include <doctest/doctest.h>

#include "route/cost.hpp"
#include "route/planner.hpp"

using namespace farmesh;
using namespace farmesh::route;
using namespace std::chrono_literals;

namespace {

PeerView peer(std::string address, Span span, Duration round_trip = 10ms) {
  PeerView view;
  view.address = std::move(address);
  view.span = span;
  view.round_trip = round_trip;
  return view;
}

Graph limited(const std::vector<PeerView>& peers, Span layers) {
  Graph graph = make_graph(peers, layers, "", {}, {});
  limit_crowds(graph, peers);
  return graph;
}

/// Candidates open to `layer`, by network; those without one count by themselves.
std::map<std::string, int> open_by_network(Graph& graph, const std::vector<PeerView>& peers,
                                           std::uint32_t layer) {
  std::map<std::string, int> open;
  for (std::size_t c = 0; c < graph.candidates.size(); ++c) {
    if (!graph.candidates[c].span.contains({layer, layer + 1})) continue;
    const std::string& address = peers[graph.candidates[c].index].address;
    const std::string network = network_of(address);
    const int is_open = graph.closed_at(c, layer) == 0 ? 1 : 0;
    open[network.empty() ? address : network] += is_open;
  }
  return open;
}

}  // namespace

TEST_SUITE("route/crowd") {
  TEST_CASE("an address is of its /24, or its /48; names and private addresses are of none") {
    CHECK(network_of("203.0.113.7:1") == network_of("203.0.113.250:31330"));
    CHECK(network_of("203.0.113.7:1") != network_of("203.0.114.7:1"));
    CHECK(network_of("[2001:db8:1::1]:9") == network_of("[2001:db8:1:2::3]:8"));
    CHECK(network_of("[2001:db8:1::1]:9") != network_of("[2001:db8:2::1]:9"));
    CHECK(network_of("[::ffff:203.0.113.9]:1") == network_of("203.0.113.7:1"));
    for (const char* none : {"127.0.0.1:1", "10.1.2.3:1", "192.168.0.9:1", "172.20.1.1:1",
                             "[::1]:1", "[fd00::1]:1", "host.example:1", "local", ""}) {
      CHECK(network_of(none).empty());
    }
    CHECK_FALSE(network_of("172.32.0.1:1").empty());
    const std::string network = network_of("203.0.113.7:1");
    CHECK(network_of("203.0.113.9:31330/p2p/far1abc") == network);
    CHECK(network_of("/ip4/203.0.113.9/tcp/31330/p2p/far1abc") == network);
    CHECK(network_of("/ip6/2001:db8:1::1/tcp/31330") == network_of("[2001:db8:1::2]:1"));
    CHECK(network_of("/ip4").empty());
  }

  TEST_CASE("one network's many fast peers leave two thirds of the candidates to others") {
    std::vector<PeerView> peers;
    for (int i = 0; i < 50; ++i) {
      peers.push_back(peer("203.0.113." + std::to_string(i) + ":1", {0, 4}, 1ms));
    }
    for (int i = 0; i < 8; ++i) {
      peers.push_back(peer("198.51." + std::to_string(i) + ".1:1", {0, 4}, 50ms));
    }
    Graph graph = limited(peers, {0, 4});
    const auto open = open_by_network(graph, peers, 2);
    CHECK(open.at(network_of("203.0.113.1:1")) == 4);  // of 12
    CHECK(open.size() == 9);
  }

  TEST_CASE("names of one network's peers are of the network where they were met") {
    std::vector<PeerView> peers;
    for (int i = 0; i < 50; ++i) {
      peers.push_back(peer("host-" + std::to_string(i) + ".example:1", {0, 4}, 1ms));
      peers.back().endpoint = "203.0.113." + std::to_string(i) + ":1";
    }
    for (int i = 0; i < 8; ++i) {
      peers.push_back(peer("198.51." + std::to_string(i) + ".1:1", {0, 4}, 50ms));
    }
    Graph graph = limited(peers, {0, 4});
    int open = 0;
    for (std::size_t c = 0; c < graph.candidates.size(); ++c) {
      if (graph.candidates[c].index < 50) open += graph.closed_at(c, 2) == 0 ? 1 : 0;
    }
    CHECK(open == 4);  // of 12
  }

  TEST_CASE("a network that is alone keeps all, and nobody's last holder is closed") {
    const std::vector<PeerView> peers{peer("203.0.113.1:1", {0, 2}), peer("203.0.113.2:1", {1, 4}),
                                      peer("203.0.113.3:1", {2, 4}), peer("other:1", {0, 1})};
    Graph graph = limited(peers, {0, 4});
    for (std::uint32_t layer = 0; layer < 4; ++layer) {
      int open = 0;
      for (const auto& [network, count] : open_by_network(graph, peers, layer)) open += count;
      CHECK(open > 0);
    }
    const auto route = plan(peers, {0, 4}, {});
    CHECK(route.has_value());
  }

  TEST_CASE("on random swarms no network has more than a third where three hold the layer") {
    std::mt19937 random(9);
    for (int round = 0; round < 200; ++round) {
      std::vector<PeerView> peers;
      const std::size_t count = 1 + random() % 60;
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t begin = random() % 8;
        // Many of few networks, a few of many.
        const int network = static_cast<int>(random() % 2 == 0 ? random() % 2 : random() % 40);
        peers.push_back(peer("198.51." + std::to_string(network) + "." + std::to_string(i) + ":1",
                             {begin, begin + 1 + static_cast<std::uint32_t>(random() % 5)},
                             Duration(1ms) * (1 + random() % 90)));
        peers.back().banned = random() % 9 == 0;
      }
      Graph graph = limited(peers, {0, 12});
      for (std::uint32_t layer = 0; layer < 12; ++layer) {
        const auto open = open_by_network(graph, peers, layer);
        int all = 0;
        int most = 0;
        for (const auto& [network, n] : open) {
          REQUIRE(n > 0);
          all += n;
          most = std::max(most, n);
        }
        if (open.size() >= 3) REQUIRE(3 * most <= all);
      }
    }
  }
}
