// Peers that nobody named: found by a bootstrap address, lost when they die, told when they leave.
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

/// Nodes of one mesh: the first begins it, the others are told its DHT address alone.
struct FoundNodes {
  FoundNodes(const std::string& model, const std::vector<Span>& spans)
      : bootstrap("127.0.0.1:" + std::to_string(port)),
        nodes(start_nodes(model, {spans.front()}, {"--dht-port", std::to_string(port)})) {
    const std::vector<Span> rest(spans.begin() + 1, spans.end());
    for (cli::NodeProcess& node :
         start_nodes(model, rest, {"--bootstrap", bootstrap, "--dht-port", "0"})) {
      nodes.push_back(std::move(node));
    }
  }

  const std::uint16_t port = free_port();
  const std::string bootstrap;
  std::vector<cli::NodeProcess> nodes;
};

/// `farmesh discovery` that answers `swarm` at this address.
cli::ChildProcess start_entrance(const std::string& swarm, const std::vector<std::string>& more) {
  const std::string ledger = scratch() / ("entrance" + swarm.substr(swarm.rfind(':') + 1) + ".db");
  auto entrance = cli::ChildProcess::start(
      std::vector<std::string>{kProgram, "discovery", "--listen", "127.0.0.1:0", "--dht-port", "0",
                               "--ledger", ledger, "--swarm-listen", swarm} +
      more);
  REQUIRE(entrance);
  REQUIRE(entrance->read_line(std::chrono::minutes(1)));
  return *std::move(entrance);
}

std::vector<std::string> flags_of(const std::string& model) {
  return {"--model", model, "--prompt", kStoryPrompt, "--temperature", "0", "--max-tokens", "24"};
}

}  // namespace

TEST_SUITE("integration/discovery") {
  TEST_CASE("generate finds its peers by a bootstrap address, and says what one process says") {
    const std::string model = any_model();
    const auto alone = generate(flags_of(model) + std::vector<std::string>{"--local"});
    REQUIRE(alone.status == 0);
    FoundNodes mesh(model, cli::even_split(layers_of(model), 3));

    for (const std::string& address :
         {mesh.bootstrap, "/ip4/127.0.0.1/tcp/" + std::to_string(mesh.port),
          "192.0.2.1:9," + mesh.bootstrap}) {
      CAPTURE(address);
      const auto found =
          generate(flags_of(model) + std::vector<std::string>{"--bootstrap", address});
      INFO(found.errors);
      REQUIRE(found.status == 0);
      CHECK(found.ids() == alone.ids());
      CHECK(found.last.at("hops").size() == 3);
    }

    // One is killed outright and one told to end: others take over, found the same way.
    mesh.nodes[2].process().signal(SIGKILL);
    mesh.nodes[1].process().signal(SIGTERM);
    const std::vector<std::string> join{"--bootstrap", mesh.bootstrap, "--dht-port", "0"};
    const auto spares = start_nodes(model, {mesh.nodes[1].layers(), mesh.nodes[2].layers()}, join);
    const auto again =
        generate(flags_of(model) + std::vector<std::string>{"--bootstrap", mesh.bootstrap});
    INFO(again.errors);
    REQUIRE(again.status == 0);
    CHECK(again.ids() == alone.ids());
  }

  TEST_CASE("an entrance tells over TCP whom nodes told it of, where no DHT is to be had") {
    const std::string model = any_model();
    const std::string swarm = "127.0.0.1:" + std::to_string(free_port());
    const cli::ChildProcess entrance = start_entrance(swarm, {});
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2),
                                   {"--bootstrap", swarm, "--dht-port", "0"});
    const auto found = generate(flags_of(model) + std::vector<std::string>{"--bootstrap", swarm});
    INFO(found.errors);
    REQUIRE(found.status == 0);
    CHECK(found.last.at("hops").size() == 2);
  }

  TEST_CASE("the entrance of a private mesh tells its members, and tells others that it is one") {
    const std::string model = any_model();
    const std::string mesh_key = (scratch() / "entrance" / "mesh.key").string();
    const std::string token = (scratch() / "entrance" / "token").string();
    REQUIRE(run({"key", "invite", "--mesh-key", mesh_key, "--mesh-name", "lab", "--out", token})
                .status == 0);
    const std::vector<std::string> member{"--join-token-file", token};
    const std::string swarm = "127.0.0.1:" + std::to_string(free_port());
    const cli::ChildProcess entrance = start_entrance(swarm, member);
    const std::vector<std::string> here{"--bootstrap", swarm};
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2),
                                   member + here + std::vector<std::string>{"--dht-port", "0"});
    const auto found = generate(flags_of(model) + member + here);
    INFO(found.errors);
    REQUIRE(found.status == 0);
    CHECK(found.last.at("hops").size() == 2);

    const auto stranger = generate(flags_of(model) + here);
    CHECK(stranger.status == 4);
    CHECK(stranger.last.at("error") == "join_refused");
    CHECK(stranger.last.at("detail").get<std::string>().find("\"lab\" is private") !=
          std::string::npos);
  }

  TEST_CASE("peers of another mesh, and of nobody, are not found") {
    const std::string model = any_model();
    FoundNodes mesh(model, {{0, layers_of(model)}});
    const auto other = generate(
        flags_of(model) + std::vector<std::string>{"--bootstrap", mesh.bootstrap, "--mesh", "x"});
    CHECK(other.status == 4);
    CHECK(other.last.at("error") == "no_route");
  }

  TEST_CASE("an id of another network in a bootstrap address is named") {
    const std::string id = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
    const auto refused =
        generate(flags_of(any_model()) +
                 std::vector<std::string>{"--bootstrap", "/ip4/127.0.0.1/tcp/9/p2p/" + id});
    CHECK(refused.status != 0);
    CHECK(refused.last.at("error") == "address_invalid");
    CHECK(refused.last.at("detail").get<std::string>().find(id.substr(0, 12)) != std::string::npos);
  }
}

}  // namespace farmesh::test
