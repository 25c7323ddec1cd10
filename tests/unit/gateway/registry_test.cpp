// The registry's routes over real loopback sockets, on either back end, with a clock that is told.
#include "gateway/registry.hpp"

#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "evm/wallet_statement.hpp"
#include "gateway/embedded.hpp"
#include "gateway/node_signature.hpp"
#include "http/client.hpp"
#include "identity/node_key.hpp"
#include "unit/gateway/openapi_schema.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using gateway::Registry;
using gateway::RegistryOptions;
using nlohmann::json;

const std::string kModel = "meta-llama/Llama-2-7b-chat-hf";

RegistryOptions usual_options() {
  RegistryOptions options;
  options.version = "0.1.0";
  options.bootstrap_nodes = {"/ip4/203.0.113.7/tcp/31337"};
  options.full_id = [](const std::string& id) { return id == "llama-2-7b" ? kModel : id; };
  return options;
}

/// A registry on a loopback port.
template <class Backend>
struct Service {
  World<Backend> world;
  std::unique_ptr<Registry> registry;
  std::unique_ptr<http::Server> server;
  http::Client client{{.proxy_from_environment = false}};

  explicit Service(RegistryOptions options = usual_options()) {
    if (!world.store) return;
    registry = std::make_unique<Registry>(std::move(options), world.store);
    http::Router router;
    registry->add_routes(router);
    registry->add_service_routes(router);
    http::ServerOptions serving;
    serving.on_finished = [this](const http::Finished& done) { registry->finished(done); };
    auto started = http::Server::start(std::move(router), serving);
    REQUIRE(started);
    server = *std::move(started);
  }

  std::int64_t now() const { return world.clock.now().time_since_epoch().count(); }

  struct Answer {
    int status = 0;
    std::string body;
    json parsed;
    const json& operator[](const char* key) const { return parsed.at(key); }
    std::string code() const { return parsed.value("code", ""); }
  };
  Answer send(const std::string& method, const std::string& path, const std::string& body = {},
              http::Headers headers = {}) {
    http::ClientRequest request;
    request.method = method;
    request.url = "http://127.0.0.1:" + std::to_string(server->port()) + path;
    request.body = body;
    request.headers = std::move(headers);
    const auto reply = client.send(request);
    REQUIRE_MESSAGE(reply, reply.error().to_string());
    return {reply->status, reply->body, json::parse(reply->body, nullptr, false)};
  }
  Answer get(const std::string& path) { return send("GET", path); }
};

/// A provider's node: a key, and perhaps a wallet that has signed for it.
struct Provider {
  identity::NodeKey key = identity::NodeKey::generate();
  evm::PrivateKey wallet = evm::PrivateKey::generate();
  std::string id = to_string(key.id());
  std::string wallet_text = evm::to_string(wallet.address());

  http::Headers headers(const std::string& method, const std::string& path, std::int64_t at,
                        const std::string& body) const {
    const std::string text = gateway::signed_text(method, path, at, body);
    return gateway::signature_headers(to_hex(key.public_key()), at,
                                      to_hex(key.sign(gateway::kRequestDomain, as_view(text))));
  }

  evm::SignedStatement statement(LedgerTime now) const {
    evm::WalletStatement words;
    words.domain = "farmesh";
    words.chain_id = 56;
    words.node = key.id();
    words.wallet = wallet.address();
    words.date = std::chrono::floor<std::chrono::seconds>(now);
    const auto text = evm::statement_text(words);
    REQUIRE(text);
    return {words, evm::sign(wallet, evm::personal_digest(*text))};
  }

  json registration(LedgerTime now, Span layers = {0, 3}) const {
    const evm::SignedStatement said = statement(now);
    return {{"wallet_address", wallet_text},
            {"model_id", "llama-2-7b"},
            {"gpu_model", "RTX 4090"},
            {"vram_gb", 24},
            {"public_addr", "203.0.113.9:31330"},
            {"location", "DE-Berlin"},
            {"wallet_statement", *evm::statement_text(said.statement)},
            {"signature", "0x" + to_hex(said.signature.to_bytes())},
            {"span", {{"start", layers.begin}, {"end", layers.end}}},
            {"total_layers", 4}};
  }

  template <class Backend>
  auto post(Service<Backend>& service, const std::string& path, const json& body,
            std::int64_t offset_ms = 0, const std::string& method = "POST") const {
    const std::string text = body.dump();
    return service.send(method, path, text, headers(method, path, service.now() + offset_ms, text));
  }
  template <class Backend>
  auto enter(Service<Backend>& service, Span layers = {0, 3}) const {
    return post(service, "/api/nodes/register-distributed",
                registration(service.world.clock.now(), layers));
  }
  json beat() const {
    return {{"node_id", id},
            {"is_healthy", true},
            {"latency_ms", 41.5},
            {"throughput_tokens_per_sec", 12},
            {"current_requests", 2},
            {"model_id", kModel},
            {"gpu_utilization_percent", 80},
            {"vram_used_gb", 20.5}};
  }
};

constexpr const char* kRegister = "/api/nodes/register-distributed";
constexpr const char* kBeat = "/api/nodes/heartbeat";

#define FARMESH_SKIP_SERVICE(service) FARMESH_SKIP_WITHOUT((service).world)

}  // namespace

TEST_SUITE("gateway/registry") {
  TEST_CASE_TEMPLATE("a node registers, lives by heartbeats, and is offline two minutes after",
                     Backend, OnSqlite, OnPostgres) {
    Service<Backend> service;
    FARMESH_SKIP_SERVICE(service);
    const Provider node;
    const auto entered = node.enter(service);
    INFO(entered.body);
    REQUIRE(entered.status == 200);
    CHECK(entered.parsed ==
          json{{"node_id", node.id},
               {"status", "registered"},
               {"discovery_url", "http://127.0.0.1:" + std::to_string(service.server->port())},
               {"heartbeat_interval_sec", 30}});

    const std::string active = "/api/discovery/nodes/active/meta-llama/Llama-2-7b-chat-hf";
    CHECK(service.get(active).parsed == json{{"model_id", kModel},
                                             {"total_nodes", 1},
                                             {"nodes",
                                              {{{"node_id", node.id},
                                                {"wallet_address", node.wallet_text},
                                                {"gpu_model", "RTX 4090"},
                                                {"vram_gb", 24},
                                                {"location", "DE-Berlin"},
                                                {"layers_served", {0, 1, 2}},
                                                {"reliability_score", 1.0},
                                                {"avg_latency_ms", 0.0}}}}});
    const std::string escaped = "/api/discovery/nodes/active/meta-llama%2FLlama-2-7b-chat-hf";
    CHECK(service.get(escaped)["total_nodes"] == 1);
    CHECK(service.get("/api/discovery/nodes/active/llama-2-7b?location=DE")["total_nodes"] == 1);
    CHECK(service.get(escaped + "?location=FR")["total_nodes"] == 0);
    CHECK(service.get(escaped + "?limit=0")["nodes"].empty());
    CHECK(service.get(escaped + "?limit=0")["total_nodes"] == 1);

    for (int i = 0; i < 3; ++i) {
      service.world.clock.advance(std::chrono::seconds(30));
      const auto beaten = node.post(service, kBeat, node.beat());
      INFO(beaten.body);
      CHECK(beaten.status == 200);
      CHECK(beaten.body == R"({"status":"ok","should_rebalance":false})");
    }
    CHECK(service.get(active)["nodes"][0].at("avg_latency_ms") == 41.5);
    const json older = service.get("/api/nodes/active?model_id=llama-2-7b").parsed;
    REQUIRE(older.size() == 1);
    CHECK(older[0] == json{{"node_id", node.id},
                           {"peer_id", node.id},
                           {"public_addr", "203.0.113.9:31330"},
                           {"model_id", kModel},
                           {"num_blocks", 3},
                           {"status", "active"},
                           {"last_heartbeat", "2026-11-23T00:01:30Z"},
                           {"uptime_percentage", 100.0}});
    CHECK(service.get("/api/nodes/active").parsed.size() == 1);

    service.world.clock.advance(std::chrono::seconds(120));
    REQUIRE(service.registry->mark_stale());
    CHECK(service.get(active)["total_nodes"] == 1);
    service.world.clock.advance(std::chrono::seconds(1));
    REQUIRE(service.registry->mark_stale());
    CHECK(service.get(active)["total_nodes"] == 0);
    CHECK(service.get("/api/nodes/active").parsed.empty());
    CHECK(service.get("/api/stats").parsed == json{{"active_nodes", 0},
                                                   {"total_nodes_registered", 1},
                                                   {"total_tokens_processed", 0},
                                                   {"models_served", 0},
                                                   {"timestamp", "2026-11-23T00:03:31Z"}});
    CHECK(node.post(service, kBeat, node.beat()).status == 200);
    CHECK(service.get(active)["total_nodes"] == 1);
    CHECK(service.get("/api/stats")["models_served"] == 1);
  }

  TEST_CASE("the OpenAPI document's schemas fit what nodes send and are answered") {
    Service<OnSqlite> service;
    const Provider node;
    const json document = json::parse(gateway::kOpenApiJson);
    const auto check = [&document](const std::string& schema, const json& value) {
      INFO(schema, " ", value.dump());
      CHECK(fault(document, {{"$ref", "#/components/schemas/" + schema}}, value) == "");
    };
    const json registration = node.registration(service.world.clock.now());
    check("NodeRegistration", registration);
    check("NodeRegistered", node.post(service, kRegister, registration).parsed);
    check("NodeHeartbeat", node.beat());
    check("NodeHeartbeatReply", node.post(service, kBeat, node.beat(), 1).parsed);
    const json older{
        {"wallet_address", ""}, {"model_id", kModel},      {"public_addr", "10.0.0.7:1"},
        {"peer_id", node.id},   {"gpu_model", "RTX 3060"}, {"vram_total_gb", 12.5},
        {"num_blocks", 2},      {"torch_dtype", "float16"}};
    check("NodeRegistration", older);
    check("NodeRegisteredOlder", node.post(service, "/api/nodes/register", older, 2).parsed);
    const json older_beat{
        {"vram_available_gb", 3.5}, {"tokens_served_since_last", 7}, {"status", "online"}};
    check("NodeHeartbeatOlder", older_beat);
    check("NodeHeartbeatReply",
          node.post(service, "/api/nodes/" + node.id + "/heartbeat", older_beat, 3, "PUT").parsed);
    check("ActiveNodes", service.get("/api/discovery/nodes/active/llama-2-7b").parsed);
    check("Error", node.post(service, kBeat, node.beat(), 3).parsed);
  }

  TEST_CASE_TEMPLATE("the older forms: register, heartbeat by PUT", Backend, OnSqlite, OnPostgres) {
    Service<Backend> service;
    FARMESH_SKIP_SERVICE(service);
    const Provider node;
    const json body{
        {"wallet_address", ""}, {"model_id", kModel},      {"public_addr", "10.0.0.7:1"},
        {"peer_id", node.id},   {"gpu_model", "RTX 3060"}, {"vram_total_gb", 12.5},
        {"num_blocks", 2},      {"torch_dtype", "float16"}};
    const auto unplaced = node.post(service, "/api/nodes/register", body);
    INFO(unplaced.body);
    CHECK(unplaced.status == 201);
    CHECK(unplaced["node_id"] == node.id);
    CHECK(unplaced["status"] == "registered");
    CHECK(unplaced["message"].dump().find("span") != std::string::npos);
    CHECK(unplaced["dht_bootstrap"] == json::array({"/ip4/203.0.113.7/tcp/31337"}));
    CHECK(service.get("/api/nodes/active").parsed.empty());  // which layers, nobody knows

    json placed = body;
    placed["span"] = {{"start", 1}, {"end", 3}};
    placed["total_layers"] = 4;
    CHECK(node.post(service, "/api/nodes/register", placed, 1).status == 201);
    CHECK(service.get("/api/nodes/active").parsed.at(0).at("num_blocks") == 2);

    const std::string path = "/api/nodes/" + node.id + "/heartbeat";
    const json beat{
        {"vram_available_gb", 3.5}, {"tokens_served_since_last", 17}, {"status", "online"}};
    CHECK(node.post(service, path, beat, 2, "PUT").body ==
          R"({"status":"ok","should_rebalance":false})");
    json leaving = beat;
    leaving["status"] = "offline";
    CHECK(node.post(service, path, leaving, 3, "PUT").status == 200);
    CHECK(service.get("/api/nodes/active").parsed.empty());

    json wrong = placed;
    wrong["num_blocks"] = 3;
    CHECK(node.post(service, "/api/nodes/register", wrong, 4).code() == "invalid_value");
  }

  TEST_CASE("layers nobody holds are told, and spare nodes are asked to move there") {
    Service<OnSqlite> service;
    const Provider first, second;
    REQUIRE(first.enter(service, {0, 2}).status == 200);
    REQUIRE(second.enter(service, {0, 3}).status == 200);
    CHECK(service.get("/api/discovery/layers/llama-2-7b").parsed ==
          json{{"model_id", kModel},
               {"total_layers", 4},
               {"available", false},
               {"nodes_per_layer", {2, 2, 1, 0}}});
    CHECK(first.post(service, kBeat, first.beat(), 1)["should_rebalance"] == true);
    CHECK(second.post(service, kBeat, second.beat(), 1)["should_rebalance"] == false);
    const Provider third;
    REQUIRE(third.enter(service, {2, 4}).status == 200);
    CHECK(service.get("/api/discovery/layers/llama-2-7b")["available"] == true);
    service.world.clock.advance(std::chrono::seconds(5));  // it looks again after so long
    CHECK(first.post(service, kBeat, first.beat(), 2)["should_rebalance"] == false);
    CHECK(service.get("/api/discovery/layers/other").parsed ==
          json{{"model_id", "other"},
               {"total_layers", 0},
               {"available", false},
               {"nodes_per_layer", json::array()}});
  }

  TEST_CASE_TEMPLATE("a request is taken once, fresh, and signed by the node it speaks of", Backend,
                     OnSqlite, OnPostgres) {
    Service<Backend> service;
    FARMESH_SKIP_SERVICE(service);
    const Provider node, other;
    REQUIRE(node.enter(service).status == 200);
    const std::string body = node.beat().dump();
    const auto beat = [&](const http::Headers& headers, const std::string& text) {
      return service.send("POST", kBeat, text, headers);
    };

    const std::int64_t at = service.now() + 1'000;
    const http::Headers good = node.headers("POST", kBeat, at, body);
    CHECK(beat(good, body).status == 200);
    const auto replayed = beat(good, body);
    CHECK(replayed.status == 409);
    CHECK(replayed.code() == "request_replayed");
    // In another process on the same database, too.
    {
      auto reopened = service.world.open();
      REQUIRE(reopened);
      ledger::Heartbeat again;
      again.node_id = node.id;
      again.signed_ms = at;
      CHECK(ledger::NodeRegistry(*reopened).heartbeat(again).error().code == Errc::ledger_conflict);
    }
    const std::string entry = node.registration(service.world.clock.now()).dump();
    CHECK(
        service.send("POST", kRegister, entry, node.headers("POST", kRegister, at, entry)).code() ==
        "request_replayed");

    CHECK(beat({}, body).status == 401);
    CHECK(beat({}, body).code() == "signature_missing");
    const std::int64_t later = at + 1;
    json healthy = node.beat();
    healthy["is_healthy"] = false;
    for (const http::Headers& headers :
         {node.headers("POST", kBeat, later, healthy.dump()),  // another body
          node.headers("PUT", kBeat, later, body),             // another method
          node.headers("POST", kRegister, later, body),        // another route
          gateway::signature_headers("zz", later, "00"),       // no hexadecimal
          gateway::signature_headers(to_hex(node.key.public_key()), later,
                                     std::string(128, '0'))}) {
      const auto refused = beat(headers, body);
      CHECK(refused.status == 401);
      CHECK(refused.code() == "signature_invalid");
    }
    http::Headers moved = node.headers("POST", kBeat, later, body);
    moved.set("X-Far-Signed-At", std::to_string(later + 1));
    CHECK(beat(moved, body).code() == "signature_invalid");

    for (const std::int64_t off : {-60'001, 60'001}) {
      const auto refused = beat(node.headers("POST", kBeat, service.now() + off, body), body);
      CHECK(refused.status == 401);
      CHECK(refused.code() == "clock_off");
    }
    const auto foreign = beat(other.headers("POST", kBeat, later, body), body);
    CHECK(foreign.status == 403);
    CHECK(foreign.code() == "node_id_mismatch");
    const auto unknown = other.post(service, kBeat, other.beat());
    CHECK(unknown.status == 404);
    CHECK(unknown.code() == "node_unknown");
    CHECK(beat(node.headers("POST", kBeat, service.now() + 60'000, body), body).status == 200);
  }

  TEST_CASE("a registration for another's wallet is refused, whichever way it is tried") {
    Service<OnSqlite> service;
    const Provider node, victim;
    const LedgerTime now = service.world.clock.now();
    const json good = node.registration(now);
    std::int64_t at = 0;
    const auto enter = [&](const json& changes) {
      json body = good;
      body.update(changes);
      return node.post(service, kRegister, body, ++at);
    };
    const auto refused = [&](const json& changes, int status, const std::string& code) {
      INFO(changes.dump());
      const auto answer = enter(changes);
      INFO(answer.body);
      CHECK(answer.status == status);
      CHECK(answer.code() == code);
    };
    const json theirs = victim.registration(now);

    refused({{"wallet_address", victim.wallet_text}}, 403, "wallet_refused");
    refused({{"wallet_statement", nullptr}, {"signature", nullptr}}, 403,
            "wallet_statement_missing");
    // The victim's own statement, which anybody may see, is for the victim's node.
    refused({{"wallet_address", victim.wallet_text},
             {"wallet_statement", theirs["wallet_statement"]},
             {"signature", theirs["signature"]}},
            403, "wallet_statement_invalid");
    // Words that name the victim's wallet, signed by ours.
    evm::WalletStatement forged = node.statement(now).statement;
    forged.wallet = victim.wallet.address();
    const std::string words = *evm::statement_text(forged);
    const auto by_us = evm::sign(node.wallet, evm::personal_digest(words)).to_bytes();
    refused({{"wallet_address", victim.wallet_text},
             {"wallet_statement", words},
             {"signature", "0x" + to_hex(by_us)}},
            403, "wallet_signature_invalid");
    for (const auto& [domain, chain] :
         std::vector<std::pair<std::string, std::uint64_t>>{{"elsewhere", 56}, {"farmesh", 97}}) {
      evm::WalletStatement other = node.statement(now).statement;
      other.domain = domain;
      other.chain_id = chain;
      const std::string text = *evm::statement_text(other);
      const auto signature = evm::sign(node.wallet, evm::personal_digest(text)).to_bytes();
      refused({{"wallet_statement", text}, {"signature", "0x" + to_hex(signature)}}, 403,
              "wallet_statement_invalid");
    }
    refused({{"wallet_statement", "pay me"}}, 400, "wallet_statement_invalid");
    std::string misspelt = node.wallet_text;
    for (char& c : misspelt) {
      if (c >= 'a' && c <= 'f') {
        c = char(c - 'a' + 'A');
        break;
      }
      if (c >= 'A' && c <= 'F') {
        c = char(c - 'A' + 'a');
        break;
      }
    }
    refused({{"wallet_address", misspelt}}, 400, "wallet_invalid");
    refused({{"wallet_address", "0x" + std::string(40, '0')}}, 400, "wallet_invalid");
    CHECK(service.get("/api/stats")["total_nodes_registered"] == 0);

    // The file that `farmesh key bind` writes is as good as words and signature.
    const std::string whole = *evm::signed_statement_text(node.statement(now));
    CHECK(enter({{"wallet_statement", whole}, {"signature", nullptr}}).status == 200);
    CHECK(enter(json::object()).status == 200);
  }

  TEST_CASE_TEMPLATE("earnings are exact numbers, by either spelling of the wallet", Backend,
                     OnSqlite, OnPostgres) {
    Service<Backend> service;
    FARMESH_SKIP_SERVICE(service);
    const Provider node;
    REQUIRE(node.enter(service).status == 200);
    const std::string path = "/api/nodes/earnings/" + node.wallet_text;
    const std::string nothing = "{\"wallet_address\":\"" + node.wallet_text +
                                "\",\"total_earned_far\":0,\"total_tokens_served\":0,"
                                "\"active_nodes\":1,\"avg_uptime_percent\":100,"
                                "\"pending_payout_far\":0,\"earnings_history\":[]}";
    CHECK(service.get(path).body == nothing);

    ContributionLedger book(service.world.store);
    const auto session = book.begin_session(start_of("r"));
    REQUIRE(session);
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{node.id, {0, 4}}}, 171);
    REQUIRE(book.finalize_session({session->session_id, SessionStatus::completed, "", log}));
    const std::string earned = service.get(path).body;
    CHECK(earned.find("\"total_earned_far\":0.0171,\"total_tokens_served\":171,") !=
          std::string::npos);
    CHECK(earned.find("\"pending_payout_far\":0.0171,\"earnings_history\":"
                      "[{\"date\":\"2026-11-23\",\"amount_far\":0.0171}]}") != std::string::npos);
    const std::string lower = "/api/nodes/earnings/" + evm::to_lower_case(node.wallet.address());
    CHECK(service.get(lower).body == earned);
    CHECK(service.get("/api/nodes/earnings/0x12").code() == "wallet_invalid");
    CHECK(service.get("/api/stats")["total_tokens_processed"] == 171);
  }

  TEST_CASE("what a stranger sends is bounded, and refused by the name of the field") {
    Service<OnSqlite> service;
    const Provider node;
    std::int64_t at = 0;
    const auto code = [&](const json& changes) {
      json body = node.registration(service.world.clock.now());
      body.update(changes);
      return node.post(service, kRegister, body, ++at).code();
    };
    CHECK(code({{"gpu_model", 7}}) == "invalid_type");
    CHECK(code({{"gpu_model", std::string(256, 'x')}}) == "string_above_max_length");
    CHECK(code({{"gpu_model", "a\nb"}}) == "invalid_value");
    CHECK(code({{"vram_gb", -1}}) == "invalid_value");
    CHECK(code({{"vram_gb", "24"}}) == "invalid_type");
    CHECK(code({{"latitude", 91}}) == "invalid_value");
    CHECK(code({{"span", 3}}) == "invalid_type");
    CHECK(code({{"span", {{"start", 3}, {"end", 3}}}}) == "invalid_value");
    CHECK(code({{"span", {{"start", 0}, {"end", 5}}}}) == "invalid_value");
    CHECK(code({{"total_layers", nullptr}}) == "missing_required_parameter");
    CHECK(code({{"model", "another"}}) == "invalid_value");
    CHECK(code({{"node_id", Provider().id}}) == "node_id_mismatch");
    CHECK(code({{"a_field_of_tomorrow", 1}}).empty());

    CHECK(service.send("POST", kRegister, "[]").code() == "invalid_json");
    CHECK(service.send("POST", kBeat, "{").code() == "invalid_json");
    CHECK(service.send("POST", kBeat, "{}").code() == "missing_required_parameter");
    CHECK(service.send("POST", kBeat, R"({"node_id":"x","latency_ms":-1})").status == 400);
    CHECK(service.send("POST", kRegister, std::string(9'000, ' ')).status == 413);
    CHECK(service.get("/api/nodes/none").status == 404);
  }

  TEST_CASE("one address has a share of requests, and a smaller one of registrations") {
    RegistryOptions options = usual_options();
    options.registrations_per_hour = 2;
    options.requests_per_minute = 5;
    Service<OnSqlite> service(options);
    CHECK(Provider().enter(service).status == 200);
    CHECK(Provider().enter(service).status == 200);
    CHECK(Provider().enter(service).code() == "rate_limit_exceeded");
    CHECK(service.get("/api/stats").status == 200);
    CHECK(service.get("/api/stats").status == 200);
    CHECK(service.get("/api/stats").status == 429);
    CHECK(service.get("/health").status == 200);  // for those who watch it
  }

  TEST_CASE("what the service says of itself, with and without a ledger") {
    Service<OnSqlite> service;
    CHECK(service.get("/health").parsed ==
          json{{"status", "healthy"}, {"service", "far-mesh-discovery"}, {"version", "0.1.0"}});
    CHECK(service.get("/api/dht/bootstrap").parsed ==
          json{{"bootstrap_nodes", json::array({"/ip4/203.0.113.7/tcp/31337"})},
               {"network", "far-mesh"},
               {"version", "0.1.0"}});
    CHECK(service.get("/metrics").body.find("far_registry_active_nodes 0") != std::string::npos);

    Registry bare(usual_options(), nullptr);
    http::Router router;
    bare.add_routes(router);
    auto server = http::Server::start(std::move(router), {});
    REQUIRE(server);
    service.server = *std::move(server);
    CHECK(service.get("/api/stats").status == 503);
    CHECK(service.get("/api/dht/bootstrap").status == 200);
    service.server.reset();
  }
}

}  // namespace farmesh::test
