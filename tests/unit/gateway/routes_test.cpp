// The routes over real loopback sockets, with a scripted model behind them.
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "evm/signature.hpp"
#include "gateway/resumption.hpp"
#include "ledger/checks.hpp"
#include "ledger/receipts.hpp"
#include "unit/gateway/openapi_schema.hpp"
#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

json chat(const json& more = json::object()) {
  json body{{"model", "short"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
  body.update(more);
  return body;
}

// Looks every millisecond, for at most ten seconds.
template <class Holds>
bool soon(Holds holds) {
  for (int i = 0; i < 10'000; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace

TEST_SUITE("gateway/routes") {
  TEST_CASE("what the coordinator says of itself") {
    World world;
    CHECK(world.get("/health") ==
          json{{"status", "healthy"}, {"service", "far-mesh-coordinator"}, {"version", "0.1.0"}});
    CHECK(world.get("/ready").at("status") == "ready");
    CHECK(world.get("/mesh/status?model_id=short") == json{{"model_id", "org/model"},
                                                           {"active_nodes", 2},
                                                           {"active_sessions", 0},
                                                           {"price_per_token_far", "0.0001"},
                                                           {"status", "connected"}});
    CHECK(world.get("/mesh/layers").at("nodes_per_layer") == json({1, 1, 1, 1}));
    CHECK(world.get("/models").at("models").at(0).at("status") == "available");
    CHECK(world.get("/api/inference/models").at("models").at(0).at("id") == "org/model");
    CHECK(world.get("/mesh/status?model_id=other", 404).at("code") == "model_not_found");
    CHECK(world.send("GET", "/").body.find("<!doctype html>") == 0);
    CHECK(world.send("GET", "/metrics").body.find("far_mesh_active_nodes") != std::string::npos);

    world.model->covered = false;
    const json hole = world.get("/ready", 503);
    CHECK(hole.at("status") == "not_ready");
    CHECK(hole.at("uncovered_layers") == json({2, 3}));
  }

  TEST_CASE("the OpenAPI document describes every route that there is") {
    World world;
    const json document = world.get("/openapi.json");
    CHECK(document.at("openapi") == "3.1.0");
    for (const auto& [path, methods] : document.at("paths").items()) {
      for (const auto& [method, operation] : methods.items()) {
        std::string upper = method;
        for (char& c : upper) c = char(std::toupper(c));
        std::string target = path;
        std::erase_if(target, [](char c) { return c == '{' || c == '}'; });
        const http::ClientReply reply = world.send(upper, target, upper == "POST" ? "{}" : "");
        INFO(upper, " ", path, " ", reply.status, " ", reply.body.substr(0, 200));
        CHECK(reply.status != 405);
        // An unknown path is the server's own refusal; a missing thing names what is missing.
        CHECK(reply.body.find("no such path") == std::string::npos);
        CHECK_FALSE(operation.at("responses").empty());
      }
    }
  }

  TEST_CASE("the OpenAPI document's schemas fit the real answers") {
    World world;
    const json document = world.get("/openapi.json");
    const auto check = [&](const std::string& schema, const json& value) {
      INFO(schema, " ", value.dump());
      CHECK(fault(document, {{"$ref", "#/components/schemas/" + schema}}, value) == "");
    };
    check("Health", world.get("/health"));
    check("Ready", world.get("/ready"));
    check("MeshStatus", world.get("/mesh/status"));
    check("MeshLayers", world.get("/mesh/layers"));
    check("Models", world.get("/models"));
    check("ApiModels", world.get("/api/inference/models"));
    check("RegistryStats", world.get("/api/stats"));
    check("RegistryLayers", world.get("/api/discovery/layers/org/model"));
    check("ActiveNodes", world.get("/api/discovery/nodes/active/org%2Fmodel"));
    check("ActiveNodesOlder", world.get("/api/nodes/active"));
    check("Bootstrap", world.get("/api/dht/bootstrap"));
    check("WalletEarnings", world.get("/api/nodes/earnings/0x" + std::string(40, '1')));
    check("ModelList", world.get("/v1/models"));
    check("Model", world.get("/v1/models/short"));
    check("OpenAIError", world.get("/v1/models/other", 404));
    check("Error", world.get("/mesh/status?model_id=other", 404));
    check("ChatReply", world.post("/v1/chat/completions", chat()));
    const json prompt{{"prompt", "Hi"}, {"model", "short"}, {"stream", false}};
    check("CompletionReply", world.post("/v1/completions", prompt));
    check("Answer", world.post("/inference/generate", prompt));
    check("Quote", world.post("/api/inference/quote", prompt));
    const auto events =
        world.events("/inference/generate", {{"prompt", "Hi"}, {"request_id", "r1"}});
    check("TokenEvent", json::parse(events.front()));
    check("DoneEvent", json::parse(events.back()));
    check("RequestStatus", world.get("/api/inference/r1"));
    const std::string admin = world.key({.admin = true});
    check("Key", world.post("/api/keys", json::object(), 201, admin));
    check("Nonce", world.get("/api/auth/nonce?wallet=0x52908400098527886E0F7030069857D2E4169EE7"));
  }

  TEST_CASE("a chat's chunks, its usage and its end") {
    World world;
    const auto events =
        world.events("/v1/chat/completions",
                     chat({{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
    REQUIRE(events.size() == 8);  // role, four tokens, finish, usage, [DONE]
    CHECK(events.back() == "[DONE]");
    std::string text;
    for (std::size_t i = 0; i < 6; ++i) {
      const json chunk = json::parse(events[i]);
      CHECK(chunk.at("model") == "org/model");
      text += chunk.at("choices").at(0).at("delta").value("content", "");
    }
    CHECK(text == "Once upon a time");
    CHECK(json::parse(events[5]).at("choices").at(0).at("finish_reason") == "stop");
    const json usage = json::parse(events[6]).at("usage");
    CHECK(usage.at("prompt_tokens") == 3);
    CHECK(usage.at("completion_tokens") == 4);
    CHECK(usage.at("cost_far") == "0.0004");
  }

  TEST_CASE("prompt tokens that the nodes had in cache are told, and cost nothing") {
    World::Options options;
    options.prompt_price = Far::from_units(1'000);
    World world(options);
    world.model->cached_prompt_tokens = 2;
    const json reply = world.post("/v1/chat/completions", chat({{"max_tokens", 4}}));
    const json& usage = reply.at("usage");
    CHECK(usage.at("prompt_tokens") == 3);
    CHECK(usage.at("prompt_tokens_details").at("cached_tokens") == 2);
    const SessionRecord record = world.session(reply.at("id"));
    CHECK(record.prompt_tokens == 1);
    CHECK(record.total_cost == Far::from_units(4 * 10'000 + 1'000));
  }

  TEST_CASE("a bill travels with a metered turn; receipts that come to it are written down") {
    World world;
    const json reply = world.post("/v1/chat/completions", chat({{"n", 2}}));
    REQUIRE(world.model->inputs.size() == 2);
    const std::shared_ptr<driver::Bill> bill = world.model->inputs[0].options.bill;
    REQUIRE(bill);
    CHECK(world.model->inputs[1].options.bill == bill);
    const std::string session = world.session(reply.at("id")).session_id;
    CHECK(bill->account() == ledger::uuid_bytes(session));

    const auto node = identity::NodeKey::generate(), coordinator = identity::NodeKey::generate();
    bill->tally(node.id(), {0, 2}, bill).add(3, 8);
    wire::Receipt receipt;
    receipt.account = bill->account();
    receipt.node_id = node.id();
    receipt.span = {0, 2};
    receipt.counts = {.prefill = 3, .decode = 8};
    receipt.final = true;
    receipt.sequence = 1;
    REQUIRE(bill->take(node.id(), ledger::sign(receipt, node), coordinator));
    ledger::Receipts receipts(world.store);
    CHECK(soon([&] { return receipts.of_session(session)->size() == 1; }));
    CHECK(receipts.of_session(session)->front().driver_key == coordinator.public_key());
  }

  TEST_CASE("who is not metered is not promised anything") {
    World::Options options;
    options.metered = false;
    World world(options);
    world.post("/v1/chat/completions", chat());
    CHECK_FALSE(world.model->inputs.at(0).options.bill);
  }

  TEST_CASE("a whole chat of three choices, each with a seed of its own") {
    World world;
    const json reply =
        world.post("/v1/chat/completions", chat({{"n", 3}, {"seed", 7}, {"max_tokens", 2}}));
    REQUIRE(reply.at("choices").size() == 3);
    CHECK(reply.at("choices").at(2).at("message").at("content") == "Once upon");
    CHECK(reply.at("choices").at(2).at("finish_reason") == "length");
    CHECK(reply.at("usage").at("completion_tokens") == 6);
    REQUIRE(world.model->inputs.size() == 3);
    CHECK(world.model->inputs[2].options.sampling.seed == 9);
    const SessionRecord record = world.session(reply.at("id"));
    CHECK(record.tokens_generated == 6);
    CHECK(record.total_cost == *Far::parse("0.0006"));
    CHECK(record.contributions.size() == 2);
  }

  TEST_CASE("completions echo, take several prompts, and tell log-probabilities") {
    World world;
    const json reply = world.post("/v1/completions",
                                  {{"model", "org/model"}, {"prompt", {"A", "B"}}, {"echo", true}});
    REQUIRE(reply.at("choices").size() == 2);
    CHECK(reply.at("choices").at(1).at("text") == "BOnce upon a time");
    const json scored =
        world.post("/v1/completions", {{"model", "org/model"}, {"prompt", "A"}, {"logprobs", 2}});
    CHECK(scored.at("choices").at(0).at("logprobs").at("tokens") ==
          json({"Once", " upon", " a", " time"}));
    CHECK(scored.at("choices").at(0).at("logprobs").at("text_offset") == json({0, 4, 9, 11}));
  }

  TEST_CASE("OpenAI's errors have their statuses and shape") {
    World world;
    const json unknown =
        world.post("/v1/chat/completions", chat({{"model", "other"}}), 404).at("error");
    CHECK(unknown.at("code") == "model_not_found");
    const json tools =
        world.post("/v1/chat/completions", chat({{"tools", {{{"type", "function"}}}}}), 400);
    CHECK(tools.at("error").at("param") == "tools");
    CHECK(world.get("/v1/models/other", 404).at("error").at("code") == "model_not_found");
    CHECK(world.get("/v1/models/short").at("id") == "org/model");
    CHECK(world.get("/v1/models/org%2Fmodel").at("id") == "org/model");
    CHECK(world.get("/v1/models/org/model").at("id") == "org/model");
    CHECK(world.get("/v1/nothing", 404).contains("error"));
    CHECK(world.post("/v1/models", json::object(), 405).at("error").contains("message"));

    world.model->failure = Error{Errc::no_route, "10.0.0.7 is gone"};
    const json lost = world.post("/v1/chat/completions", chat({{"stream", true}}), 503);
    CHECK(lost.at("error").at("code") == "no_route");
    CHECK(lost.dump().find("10.0.0.7") == std::string::npos);
  }

  TEST_CASE("a failure in mid-stream is an error event, and what came before is paid") {
    World world;
    world.model->failure = Error{Errc::connection_lost, ""};
    world.model->fail_after = 2;
    const auto events = world.events("/v1/chat/completions", chat({{"stream", true}}));
    CHECK(json::parse(events.back()).at("error").at("code") == "connection_lost");
    const SessionRecord record = world.session(json::parse(events.front()).at("id"));
    CHECK(record.status == SessionStatus::failed);
    CHECK(record.tokens_generated == 2);
    CHECK(record.total_cost == *Far::parse("0.0002"));
  }

  TEST_CASE("the platform's stream has its published events") {
    World world;
    const auto events =
        world.events("/inference/generate", {{"prompt", "Hi"}, {"request_id", "r1"}});
    REQUIRE(events.size() == 5);
    CHECK(events[0] ==
          R"({"token":"Once","request_id":"r1","tokens_generated":1,"cost_far":"0.0001"})");
    const json done = json::parse(events[4]);
    CHECK(done.at("done") == true);
    CHECK(done.at("total_tokens") == 4);
    CHECK(done.at("cost_far") == "0.0004");
    CHECK(done.at("latency_ms").is_number_integer());
    CHECK(world.model->inputs[0].options.max_tokens == 512);

    const http::ClientReply status = world.send("GET", "/api/inference/r1");
    CHECK(status.body.find(R"("status":"completed")") != std::string::npos);
    CHECK(status.body.find(R"("text":"Once upon a time")") != std::string::npos);
    CHECK(status.body.find(R"("cost_far":0.0004)") != std::string::npos);
  }

  TEST_CASE("a request_id that came before is answered again, or refused with another body") {
    World world;
    const json body{{"prompt", "Hi"}, {"request_id", "r1"}, {"stream", false}};
    const json first = world.post("/api/inference/distributed/generate", body);
    CHECK(first.at("nodes_used").at(1).at("layers") == json({2, 3}));
    CHECK(world.post("/api/inference/distributed/generate", body) == first);
    CHECK(world.model->started == 1);
    json other = body;
    other["prompt"] = "Ho";
    CHECK(world.post("/api/inference/distributed/generate", other, 409).at("code") ==
          "request_id_reused");
  }

  TEST_CASE("a request may ask for its account's tier or a lower one") {
    World world;
    const auto with_tier = [](const char* tier) {
      return json{{"prompt", "Hi"}, {"stream", false}, {"tier", tier}};
    };
    CHECK(world.post("/inference/generate", with_tier("standard")).contains("text"));
    CHECK(world.post("/inference/generate", with_tier("premium"), 403).at("code") ==
          "tier_not_allowed");
    CHECK(world.post("/inference/generate", with_tier("gold"), 400).at("param") == "tier");
    CHECK(world.post("/v1/chat/completions", chat({{"tier", "premium"}}), 403)
              .at("error")
              .at("param") == "tier");
  }

  TEST_CASE("a quote is what would be set aside") {
    World world;
    const http::ClientReply reply =
        world.send("POST", "/api/inference/quote", R"({"prompt":"Hi","max_tokens":512})");
    CHECK(reply.body == R"({"model_id":"org/model","max_tokens":512,"price_per_token_far":0.0001,)"
                        R"("price_per_prompt_token_far":0,"max_cost_far":0.0512})");
  }

  TEST_CASE("a request can be cancelled from elsewhere, and pays for what was delivered") {
    World world;
    world.model->endless = true;
    std::thread reader([&world] {
      world.send("POST", "/inference/generate",
                 R"({"prompt":"Hi","request_id":"r1","max_tokens":512})");
    });
    CHECK(soon([&world] { return world.model->started == 1; }));
    const http::ClientReply cancelled = world.send("DELETE", "/api/inference/r1");
    CHECK((cancelled.status == 200 || cancelled.status == 404));
    reader.join();
    CHECK(world.get("/api/inference/nothing", 404).at("code") == "not_found");
  }

  TEST_CASE("a request that nobody remembers is told by the ledger, to whom it belongs") {
    World world;
    SessionStart start;
    start.request_id = "old";
    start.user_wallet = "public";
    start.model_id = "org/model";
    start.price_per_token = Far::from_units(10'000);
    ContributionLedger book(world.store);
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{kNodeA, {0, 2}}, {kNodeB, {2, 4}}}, 6);
    REQUIRE(book.finalize_session(
        {book.begin_session(start)->session_id, SessionStatus::completed, "", log}));
    // It was resumed once, and that part failed.
    start.request_id = gateway::session_request_id("old", 1);
    log.keep_output(2);
    REQUIRE(book.finalize_session(
        {book.begin_session(start)->session_id, SessionStatus::failed, "timeout", log}));
    const json told = world.get("/api/inference/old");
    CHECK(told.at("status") == "failed");
    CHECK(told.at("error") == "timeout");
    CHECK(told.at("tokens_generated") == 8);
    CHECK(told.at("cost_far") == 0.0008);
    CHECK(told.at("text") == "");
    CHECK(told.at("nodes_used").at(0).at("layers") == json({0, 1}));
    CHECK(json::parse(world.send("DELETE", "/api/inference/old").body).at("status") == "failed");
    start.request_id = "another's";
    start.user_wallet = "key:other";
    REQUIRE(book.begin_session(start));
    world.get("/api/inference/another's", 404);
  }

  TEST_CASE("a client that hangs up ends the mesh's work") {
    World world;
    world.model->endless = true;
    http::ClientRequest request;
    request.method = "POST";
    request.url = world.url("/v1/completions");
    request.body = R"({"model":"short","prompt":"Hi","stream":true,"max_tokens":500,"n":2})";
    const auto hang_up = [](std::string_view) { return false; };
    CHECK_FALSE(world.client.stream(request, {}, hang_up));
    CHECK(soon([&world] { return world.coordinator->services().live.all().empty(); }));
    CHECK(world.get("/mesh/status").at("active_sessions") == 0);
  }

  TEST_CASE("who has no key draws on the public budget, until it is spent") {
    World::Options options;
    options.public_budget = *Far::parse("0.0005");
    World world(options);
    const json body{{"prompt", "Hi"}, {"stream", false}, {"max_tokens", 4}};
    CHECK(world.post("/api/inference/generate", body).at("tokens_generated") == 4);
    CHECK(world.post("/api/inference/generate", body, 402).at("code") == "insufficient_credit");
    // A chat that does not say how long gets what is left.
    CHECK(world.post("/v1/chat/completions", chat()).at("usage").at("completion_tokens") == 1);
  }

  TEST_CASE("without a public budget a key is asked for, and scopes hold") {
    World::Options options;
    options.public_budget = {};
    World world(options);
    CHECK(world.post("/v1/chat/completions", chat(), 401).at("error").at("code") ==
          "missing_api_key");
    CHECK(world.post("/v1/chat/completions", chat(), 401, "far_x").at("error").at("code") ==
          "invalid_api_key");
    const std::string admin = world.key({.admin = true});
    CHECK(world.post("/v1/chat/completions", chat(), 403, admin).at("error").at("code") ==
          "scope_missing");
    const std::string poor = world.key({.infer = true});
    CHECK(world.post("/v1/chat/completions", chat(), 402, poor).at("error").at("code") ==
          "insufficient_credit");
    const std::string rich = world.key({.infer = true}, *Far::parse("1"));
    CHECK(world.post("/v1/chat/completions", chat(), 200, rich).contains("usage"));
    CHECK(world.post("/v1/chat/completions", chat({{"max_cost_far", "0.00001"}}), 402, rich)
              .at("error")
              .at("param") == "max_cost_far");
    CHECK(world.get("/api/keys", 403, rich).at("code") == "scope_missing");
    const json made = world.post("/api/keys", {{"name", "app"}}, 201, admin);
    CHECK(world.get("/v1/models", 200, made.at("secret")).at("data").size() == 1);
    const json keys = world.get("/api/keys", 200, admin);
    CHECK(keys.dump().find(made.at("secret").get<std::string>()) == std::string::npos);
    CHECK(world.send("DELETE", "/api/keys/" + made.at("key_id").get<std::string>(), {}, admin)
              .status == 200);
  }

  TEST_CASE("an address without a key has so many requests an hour, and is told so") {
    World::Options options;
    options.coordinator.gatekeeper.public_requests = 2;
    World world(options);
    const std::string body = R"({"prompt":"Hi","stream":false})";
    const http::ClientReply first = world.send("POST", "/inference/generate", body);
    CHECK(first.headers.get("RateLimit-Limit") == "2");
    CHECK(first.headers.get("RateLimit-Remaining") == "1");
    CHECK(world.send("POST", "/inference/generate", body).status == 200);
    const http::ClientReply refused = world.send("POST", "/inference/generate", body);
    CHECK(refused.status == 429);
    CHECK(refused.headers.get("Retry-After") == "1800");
  }

  TEST_CASE("a wallet logs in with a fresh nonce, once, and is then the user_wallet") {
    World world;
    const evm::PrivateKey wallet = evm::PrivateKey::generate();
    const std::string address = to_string(wallet.address());
    const json nonce = world.get("/api/auth/nonce?wallet=" + address);
    const std::string message = nonce.at("message");
    CHECK(message.starts_with("Far Labs Login: " + address));
    const auto signature = sign(wallet, evm::personal_digest(message)).to_bytes();
    const json login{
        {"wallet_address", address}, {"message", message}, {"signature", "0x" + to_hex(signature)}};
    const std::string token = world.post("/api/auth/login", login).at("token");
    CHECK(world.post("/api/auth/login", login, 401)
              .at("error")
              .get<std::string>()
              .find("/api/auth/nonce") != std::string::npos);
    REQUIRE(ledger::Credits(world.store)
                .deposit(evm::to_lower_case(wallet.address()), *Far::parse("1"), "gift"));
    const json body{{"prompt", "Hi"}, {"stream", false}, {"user_wallet", address}};
    CHECK(world.post("/api/inference/generate", body, 200, token).contains("text"));
    CHECK(world.post("/api/inference/generate", body, 403).at("code") ==
          "wallet_not_authenticated");
    CHECK(world.get("/api/provider/stats", 200, token).at("totalTokensServed") == 0);
    CHECK(world.get("/api/provider/earnings/history", 200, token).is_array());
    CHECK(world.get("/api/auth/nonce?wallet=0x12", 400).at("code") == "wallet_invalid");
  }

  TEST_CASE("bad bodies of every kind are refused in the shape of their API") {
    World world;
    CHECK(world.send("POST", "/v1/completions", "{").status == 400);
    CHECK(world.post("/inference/generate", {{"prompt", 1}}, 400).at("param") == "prompt");
    CHECK(world
              .post("/inference/generate", {{"prompt", "'; DROP TABLE far_mesh_sessions; --"},
                                            {"request_id", "';--"},
                                            {"stream", false}})
              .contains("text"));
    CHECK(world.session("';--").tokens_generated == 4);
  }
}

}  // namespace farmesh::test
