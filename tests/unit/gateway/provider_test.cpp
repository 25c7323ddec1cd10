// What a provider sees of its own nodes at a coordinator.
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "unit/gateway/openapi_schema.hpp"
#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

std::string login(World& world, const std::string& wallet) {
  ledger::ApiKey wanted;
  wanted.account = wallet;
  wanted.scopes = {.infer = true, .provider = true};
  const auto made = ledger::ApiKeys(world.store).create(wanted);
  REQUIRE(made);
  return made->secret;
}

void enter(World& world, const std::string& node_id, const std::string& wallet) {
  ledger::NodeRegistration node;
  node.node_id = node_id;
  node.wallet = wallet;
  REQUIRE(ledger::NodeRegistry(world.store).register_node(node));
}

}  // namespace

TEST_SUITE("gateway/provider") {
  TEST_CASE("a provider's numbers are of its own nodes: tokens, requests under way, failed ones") {
    World world;
    const std::string ours = "0x" + std::string(40, '1'), others = "0x" + std::string(40, '2');
    enter(world, kNodeA, ours);
    enter(world, std::string(64, 'c'), others);
    const std::string key = login(world, ours), other_key = login(world, others);
    const json whole{{"prompt", "Hi"}, {"stream", false}};
    world.post("/inference/generate", whole);
    world.model->hold_after = 2;
    http::EventParser parser([&](const http::ReceivedEvent& event) {
      if (json::parse(event.data).value("tokens_generated", 0) != 2) return true;
      CHECK(world.get("/api/provider/stats", 200, key).at("activeRequests") == 1);
      CHECK(world.get("/api/provider/stats", 200, other_key).at("activeRequests") == 0);
      CHECK(world.send("DELETE", "/api/inference/r").status == 200);
      return true;
    });
    http::ClientRequest request;
    request.method = "POST";
    request.url = world.url("/inference/generate");
    request.body = R"({"prompt":"Hi","request_id":"r"})";
    const auto on_body = [&parser](std::string_view piece) { return bool(parser.feed(piece)); };
    REQUIRE(world.client.stream(request, {}, on_body));
    world.model->hold_after = SIZE_MAX;
    world.model->failure = Error{Errc::connection_lost, ""};
    world.model->fail_after = 3;
    CHECK(world.events("/inference/generate", {{"prompt", "Hi"}}).size() == 4);

    const json stats = world.get("/api/provider/stats", 200, key);
    CHECK(stats.at("totalTokensServed") == 2 + 1 + 1);  // its half, of two nodes the earlier one's
    CHECK(stats.at("total_requests_served") == 3);
    CHECK(stats.at("failed_requests") == 1);
    CHECK(stats.at("activeRequests") == 0);
    const json document = world.get("/openapi.json");
    CHECK(fault(document, {{"$ref", "#/components/schemas/ProviderStats"}}, stats) == "");
    const json none = world.get("/api/provider/stats", 200, other_key);
    CHECK(none.at("totalTokensServed") == 0);
    CHECK(none.at("failed_requests") == 0);
  }
}

}  // namespace farmesh::test
