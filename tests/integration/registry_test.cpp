// farmesh discovery as a process: an entrance to the mesh, and the registry that nodes enter.
#include <algorithm>
#include <chrono>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include <farmesh/farmesh.hpp>

#include "base/digest.hpp"
#include "cli/key_bind.hpp"
#include "http/client.hpp"
#include "integration/program.hpp"
#include "ledger/store.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

const std::vector<std::string> kModelId{"--model-id", "demo"};

/// `farmesh discovery` on free ports.
struct Service {
  explicit Service(const std::string& ledger) {
    auto started = cli::ChildProcess::start(
        {kProgram, "discovery", "--listen", "127.0.0.1:0", "--dht-port", "0", "--ledger", ledger});
    REQUIRE(started);
    process = *std::move(started);
    const auto line = process->read_line(2min);
    INFO(process->errors());
    REQUIRE(line);
    std::smatch match;
    REQUIRE(std::regex_match(
        *line, match,
        std::regex("listening on (http://127\\.0\\.0\\.1:\\d+) with DHT port (\\d+)")));
    url = match[1];
    bootstrap = "127.0.0.1:" + match[2].str();
  }

  json get(const std::string& path) {
    http::ClientRequest request;
    request.url = url + path;
    const auto reply = client.send(request);
    REQUIRE_MESSAGE(reply, reply.error().to_string());
    INFO(reply->body);
    CHECK(reply->status == 200);
    return json::parse(reply->body, nullptr, false);
  }
  std::size_t active() { return get("/api/discovery/nodes/active/demo").at("total_nodes"); }

  /// Flags of a node that is to be found and listed.
  std::vector<std::string> flags() const {
    return kModelId + std::vector<std::string>{"--bootstrap", bootstrap,         "--dht-port",
                                               "0",           "--discovery-url", url,
                                               "--location",  "DE-Berlin"};
  }

  std::optional<cli::ChildProcess> process;
  std::string url, bootstrap;
  http::Client client{{.proxy_from_environment = false}};
};

std::vector<std::string> flags_of(const std::string& model) {
  return {"--model", model, "--prompt", kStoryPrompt, "--temperature", "0", "--max-tokens", "24"};
}

}  // namespace

TEST_SUITE("integration/registry") {
  TEST_CASE("nodes enter the registry, leave it, and generate without it") {
    const std::string model = any_model();
    const std::uint32_t layers = layers_of(model);
    const auto alone = generate(flags_of(model) + std::vector<std::string>{"--local"});
    REQUIRE(alone.status == 0);
    const std::string file = (scratch() / "registry.sqlite").string();
    std::filesystem::remove(file);
    Service service(file);
    CHECK(service.get("/health").at("service") == "far-mesh-discovery");
    CHECK(service.get("/api/dht/bootstrap").at("bootstrap_nodes") ==
          json::array(
              {"/ip4/127.0.0.1/tcp/" + service.bootstrap.substr(service.bootstrap.find(':') + 1)}));

    const std::vector<Span> spans = cli::even_split(layers, 2);
    auto nodes = start_nodes(model, spans, service.flags());
    REQUIRE(soon([&] { return service.active() == 2; }));
    std::vector<std::uint32_t> served;
    const json listed = service.get("/api/discovery/nodes/active/demo");
    for (const json& node : listed.at("nodes")) {
      for (const json& layer : node.at("layers_served")) served.push_back(layer);
      CHECK(node.at("location") == "DE-Berlin");
    }
    std::sort(served.begin(), served.end());
    REQUIRE(served.size() == layers);
    for (std::uint32_t layer = 0; layer < layers; ++layer) CHECK(served[layer] == layer);
    CHECK(service.get("/api/discovery/layers/demo").at("available") == true);

    const auto found =
        generate(flags_of(model) + std::vector<std::string>{"--bootstrap", service.bootstrap});
    INFO(found.errors);
    REQUIRE(found.status == 0);
    CHECK(found.ids() == alone.ids());
    CHECK(found.last.at("hops").size() == 2);

    // One that is told to end says so itself.
    auto spare = start_nodes(model, {spans[0]}, service.flags());
    REQUIRE(soon([&] { return service.active() == 3; }));
    nodes[0].process().signal(SIGTERM);
    CHECK(soon([&] { return service.active() == 2; }));

    // One that is killed was last seen when it was last seen: two minutes later it is offline.
    const json of_killed = service.get("/api/nodes/active?model_id=demo");
    std::string killed;
    for (const json& node : of_killed) {
      if (node.at("public_addr") == spare[0].address()) killed = node.at("node_id");
    }
    REQUIRE_FALSE(killed.empty());
    spare[0].process().signal(SIGKILL);
    CHECK(spare[0].process().wait() == 128 + SIGKILL);
    LedgerOptions options;
    options.url = file;
    const auto store = ledger::Store::open(options);
    REQUIRE(store);
    const LedgerTime seen = (*store)->now() - 121s;
    REQUIRE((*store)->transact([&](ledger::Database& db) {
      return db.execute("UPDATE far_nodes SET last_seen = ?2 WHERE node_id = ?1", {killed, seen});
    }));
    CHECK(service.active() == 1);
    CHECK(service.get("/api/discovery/layers/demo").at("available") == false);
    CHECK(service.get("/api/stats").at("active_nodes") == 1);
    CHECK(service.get("/api/stats").at("total_nodes_registered") == 3);

    // Nobody needs it: by any node's own address all others are found.
    const auto third = start_nodes(model, {spans[0]}, service.flags());
    const std::vector<std::string> by_node{"--bootstrap",
                                           service.bootstrap + "," + nodes[1].address()};
    REQUIRE(generate(flags_of(model) + by_node).status == 0);  // they have met
    service.process->signal(SIGKILL);
    CHECK(service.process->wait() == 128 + SIGKILL);
    const auto without = generate(flags_of(model) + by_node);
    INFO(without.errors);
    REQUIRE(without.status == 0);
    CHECK(without.ids() == alone.ids());
  }

  TEST_CASE("a node earns for the wallet that said so, and ends in order with its registry") {
    const std::string model = any_model();
    Service service((scratch() / "wallets.sqlite").string());
    const auto folder = scratch() / "bound";
    const std::string key = (folder / "node.key").string();
    const Ended shown = run({"key", "show", "--key", key});
    std::smatch match;
    REQUIRE(std::regex_search(shown.output, match, std::regex("node +([0-9a-f]{64})\n")));
    const auto node = parse_node_id(match[1].str());
    REQUIRE(node);
    const evm::PrivateKey wallet = evm::PrivateKey::generate();
    const std::string address = evm::to_string(wallet.address());
    const auto words = cli::start_binding({address, "farmesh", 56, *node, folder});
    REQUIRE(words);
    const auto signature = evm::sign(wallet, evm::personal_digest(*words)).to_bytes();
    REQUIRE(cli::finish_binding(folder, *node, "0x" + to_hex(signature)));

    auto nodes =
        start_nodes(model, {{0, layers_of(model)}},
                    service.flags() + std::vector<std::string>{"--key", key, "--wallet", address});
    REQUIRE(soon([&] { return service.active() == 1; }));
    CHECK(service.get("/api/discovery/nodes/active/demo").at("nodes").at(0).at("wallet_address") ==
          address);
    CHECK(service.get("/api/nodes/earnings/" + address).at("active_nodes") == 1);

    const Ended refused =
        run({"node", "--model", model, "--layers", "0:1", "--ephemeral", "--listen", "127.0.0.1:0",
             "--wallet-proof", cli::statement_file(folder).string()});
    CHECK(refused.status != 0);
    CHECK(refused.errors.find("wallet_statement_invalid") != std::string::npos);

    service.process->signal(SIGTERM);
    CHECK(service.process->wait() == 0);
    nodes[0].process().signal(SIGTERM);
    CHECK(nodes[0].process().wait() == 0);
  }

  TEST_CASE("the coordinator serves the same registry from the same ledger") {
    const std::string file = (scratch() / "shared.sqlite").string();
    Service service(file);
    auto node = start_nodes(any_model(), {{0, layers_of(any_model())}}, service.flags());
    REQUIRE(soon([&] { return service.active() == 1; }));
    auto coordinator = cli::ChildProcess::start({kProgram, "coordinator", "--model",
                                                 "demo=" + any_model(), "--port", "0", "--ledger",
                                                 file, "--bootstrap", service.bootstrap});
    REQUIRE(coordinator);
    const auto line = coordinator->read_line(2min);
    INFO(coordinator->errors());
    REQUIRE(line);
    std::smatch match;
    REQUIRE(std::regex_search(*line, match, std::regex("listening on (http://[^ ]+) ")));
    const json own = service.get("/api/nodes/active");
    service.url = match[1];
    CHECK(service.get("/api/nodes/active").size() == 1);
    CHECK(service.get("/api/nodes/active").at(0).at("node_id") == own.at(0).at("node_id"));
    CHECK(service.get("/api/dht/bootstrap").at("bootstrap_nodes") ==
          json::array({service.bootstrap}));
    CHECK(service.get("/api/stats").at("active_nodes") == 1);
  }
}

}  // namespace farmesh::test
