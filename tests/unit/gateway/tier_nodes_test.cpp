// Whom a tier's turns may use: rules from a file, nodes from the registry.
#include "gateway/tier_nodes.hpp"

#include <fstream>

#include <doctest/doctest.h>

#include "support/temp_dir.hpp"
#include "unit/gateway/scripted_model.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::gateway {
namespace {

using test::node_name;
using test::OnPostgres;
using test::OnSqlite;

NodeId node(int number) { return *parse_node_id(node_name(number)); }

Result<TierRules> rules_in(const std::string& text) {
  const test::TempDir folder;
  const auto file = folder.path() / "tiers.json";
  std::ofstream(file) << text;
  return read_tier_rules(file.string());
}

void enter(ledger::NodeRegistry& registry, int number, const std::string& location,
           double latency_ms) {
  ledger::NodeRegistration registration;
  registration.node_id = node_name(number);
  registration.location = location;
  ledger::ServedModel served;
  served.model_id = "org/model";
  served.layers = {0, 4};
  served.total_layers = 4;
  registration.model = served;
  const auto entered = registry.register_node(registration);
  REQUIRE_MESSAGE(entered, entered.error().to_string());
  ledger::Heartbeat beat;
  beat.node_id = registration.node_id;
  beat.model_id = "org/model";
  beat.latency_ms = latency_ms;
  const auto taken = registry.heartbeat(beat);
  REQUIRE_MESSAGE(taken, taken.error().to_string());
}

}  // namespace

TEST_SUITE("gateway/tier_nodes") {
  TEST_CASE("rules are read strictly") {
    const auto rules = rules_in(R"({"premium": {"min_reliability": 0.95, "max_latency_ms": 200,
        "locations": ["DE", "FR"], "others_too": true}, "enterprise": {"nodes": [")" +
                                node_name(2) + R"(", ")" + node_name(1) + R"("]}})");
    REQUIRE_MESSAGE(rules, rules.error().to_string());
    CHECK(rules->at("premium").min_reliability == 0.95);
    CHECK(rules->at("premium").locations.size() == 2);
    CHECK(rules->at("premium").others_too);
    CHECK(rules->at("enterprise").nodes == std::vector<NodeId>{node(1), node(2)});
    CHECK_FALSE(rules->at("enterprise").asks_registry());
    for (const char* wrong :
         {"", "[]", R"({"gold": {}})", R"({"premium": 1})", R"({"premium": {"node": []}})",
          R"({"premium": {"nodes": "all"}})", R"({"premium": {"nodes": ["Qm"]}})",
          R"({"premium": {"min_reliability": 2}})", R"({"premium": {"locations": [1]}})"}) {
      CHECK(rules_in(wrong).error().code == Errc::config_invalid);
    }
    CHECK_FALSE(read_tier_rules("/nowhere"));
  }

  TEST_CASE("a tier without a rule may use anybody, one of listed nodes those") {
    TierNodes tiers({{"enterprise", TierRule{.nodes = {node(1)}}}}, nullptr);
    CHECK_FALSE(tiers.choice("org/model", "standard"));
    const auto choice = tiers.choice("org/model", "enterprise");
    REQUIRE(choice);
    CHECK(choice->contains(node(1)));
    CHECK_FALSE(choice->contains(node(2)));
    CHECK_FALSE(choice->others_too);
    // Without a registry nobody is known to be reliable.
    TierNodes strict({{"premium", TierRule{.min_reliability = 0.9}}}, nullptr);
    REQUIRE(strict.refresh({"org/model"}));
    CHECK(strict.choice("org/model", "premium")->nodes.empty());
  }

  TEST_CASE_TEMPLATE("the registry tells who is reliable, fast and near enough", Backend, OnSqlite,
                     OnPostgres) {
    test::World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ledger::NodeRegistry registry(world.store);
    enter(registry, 1, "DE-Berlin", 50);
    enter(registry, 2, "DE-Bonn", 500);
    enter(registry, 3, "US-Ohio", 50);
    enter(registry, 4, "FR-Paris", 60);
    REQUIRE(world.store->transact([](ledger::Database& db) {
      return db.execute("UPDATE far_nodes SET reliability_score = 0.5 WHERE node_id = ?1",
                        {node_name(4)});
    }));
    const TierRule near{.locations = {"DE", "FR"}};
    TierRule premium = near;
    premium.min_reliability = 0.95;
    premium.max_latency_ms = 200;
    premium.others_too = true;
    TierRule listed = near;
    listed.nodes = {node(2), node(3)};
    TierNodes tiers({{"standard", near}, {"premium", premium}, {"enterprise", listed}},
                    world.store);
    CHECK(tiers.choice("org/model", "standard")->nodes.empty());
    REQUIRE(tiers.refresh({"org/model", "other"}));
    CHECK(tiers.choice("org/model", "standard")->nodes ==
          std::vector<NodeId>{node(1), node(2), node(4)});
    CHECK(tiers.choice("org/model", "premium")->nodes == std::vector<NodeId>{node(1)});
    CHECK(tiers.choice("org/model", "premium")->others_too);
    CHECK(tiers.choice("org/model", "enterprise")->nodes == std::vector<NodeId>{node(2)});
    CHECK(tiers.choice("other", "standard")->nodes.empty());
    world.clock.advance(std::chrono::minutes(3));
    REQUIRE(tiers.refresh({"org/model"}));
    CHECK(tiers.choice("org/model", "standard")->nodes.empty());
  }

  TEST_CASE("a turn carries the nodes of its account's tier") {
    test::World::Options options;
    options.coordinator.tiers = {{"standard", TierRule{.nodes = {node(7)}}}};
    test::World world(options);
    world.post("/inference/generate", {{"prompt", "Hi"}, {"stream", false}});
    const auto nodes = world.model->inputs.at(0).options.nodes;
    REQUIRE(nodes);
    CHECK(nodes->contains(node(7)));
  }
}

}  // namespace farmesh::gateway
