// What strangers send to a coordinator: clients that never read, SQL, bytes that are no text,
// mistyped wallets. Malformed and slow HTTP is tests/unit/http's, each body's fields its codec's.
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "unit/gateway/scripted_model.hpp"
#include "unit/http/http_fixture.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

std::string post(const std::string& path, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

const std::string kWallet = "0x52908400098527886E0F7030069857D2E4169EE7";
const std::string kMistyped = "0x52908400098527886e0F7030069857D2E4169EE7";

}  // namespace

TEST_SUITE("gateway/strangers") {
  TEST_CASE("a client that never reads holds the model, is cut off, and pays what it was sent") {
    for (const std::string& call :
         {post("/inference/generate", R"({"prompt":"Hi","max_tokens":5000000})"),
          post("/v1/completions",
               R"({"model":"short","prompt":"Hi","stream":true,"max_tokens":5000000})")}) {
      World::Options options;
      options.public_budget = *Far::parse("1000");
      options.serving.write_timeout = 200ms;
      options.serving.max_queued_bytes = 16 * 1024;
      World world(std::move(options));
      world.model->endless = true;
      world.model->context_tokens = 10'000'000;
      http::test::RawClient client(world.server->port(), 4'096);
      REQUIRE(client.send(call));
      CHECK(http::test::eventually([&] { return world.model->cancelled == 1; }));
      CHECK(
          http::test::eventually([&] { return world.coordinator->services().live.all().empty(); }));
      // The kernel's buffers took some megabytes; everything behind them waited.
      const auto report = ContributionLedger(world.store).audit();
      REQUIRE(report);
      CHECK(report->findings.empty());
      CHECK(report->sessions == 1);
      CHECK(report->earned > Far());
      CHECK(report->earned < *Far::parse("10"));  // 100,000 tokens
      const auto account = ledger::Credits(world.store).account("public");
      CHECK(account->reserved.is_zero());
      CHECK(account->balance == *Far::parse("1000")->minus(report->earned));
    }
  }

  TEST_CASE("SQL in every text field is only text") {
    World world;
    const std::string sql = "'); DROP TABLE far_mesh_sessions; --", one_word = "';--";
    const json message{{"role", "user"}, {"content", sql}};
    const std::vector<std::pair<std::string, json>> calls{
        {"/v1/chat/completions", {{"model", sql}, {"messages", {message}}}},
        {"/v1/chat/completions",
         {{"model", "short"}, {"messages", {message}}, {"stop", sql}, {"user", sql}}},
        {"/v1/chat/completions", {{"model", "short"}, {"messages", {message}}, {"tier", one_word}}},
        {"/v1/chat/completions",
         {{"model", "short"}, {"messages", {{{"role", one_word}, {"content", "x"}}}}}},
        {"/v1/chat/completions", {{"model", "short"}, {"messages", {message}}, {sql, sql}}},
        {"/v1/completions", {{"model", "short"}, {"prompt", sql}, {"user", sql}}},
        {"/inference/generate", {{"prompt", sql}, {"request_id", one_word}}},
        {"/inference/generate", {{"prompt", "x"}, {"model_id", sql}}},
        {"/inference/generate", {{"prompt", "x"}, {"user_wallet", sql}}},
        {"/inference/generate", {{"prompt", "x"}, {"tier", one_word}}},
        {"/api/inference/chat", {{"prompt", sql}, {"model", "short"}}},
        {"/api/inference/quote", {{"prompt", sql}, {"model", sql}}},
        {"/api/auth/login", {{"wallet_address", sql}, {"signature", sql}, {"message", sql}}},
        {"/api/auth/login",
         {{"wallet_address", kWallet},
          {"signature", sql},
          {"message", "Far Labs Login: " + kWallet + "\nNonce: " + sql}}},
        {"/api/nodes/register-distributed",
         {{"wallet_address", sql}, {"model_id", sql}, {"gpu_model", sql}, {"location", sql}}},
        {"/api/nodes/heartbeat", {{"node_id", sql}, {"is_healthy", true}}},
    };
    for (const auto& [path, body] : calls) {
      const http::ClientReply reply = world.send("POST", path, body.dump());
      INFO(path, " ", body.dump(), " ", reply.status, " ", reply.body);
      CHECK(reply.status < 500);
    }
    const std::string admin = world.key({.admin = true});
    const json made = world.post(
        "/api/keys", {{"name", sql}, {"account", one_word}, {"tier", "standard"}}, 201, admin);
    CHECK(made.at("name") == sql);
    const std::string coded = "%27%29%3B%20DROP%20TABLE%20far_api_keys%3B%20--";
    for (const auto& [method, path] : std::vector<std::pair<std::string, std::string>>{
             {"GET", "/mesh/status?model_id=" + coded},
             {"GET", "/v1/models/" + coded},
             {"GET", "/api/inference/" + coded},
             {"DELETE", "/api/inference/" + coded},
             {"GET", "/api/inference/" + coded + "/events"},
             {"GET", "/api/auth/nonce?wallet=" + coded},
             {"GET", "/api/keys?account=" + coded},
             {"DELETE", "/api/keys/" + coded},
             {"GET", "/api/nodes/earnings/" + coded},
             {"GET", "/api/nodes/active?model_id=" + coded},
             {"GET", "/api/discovery/nodes/active/x?location=" + coded},
             {"GET", "/api/discovery/layers/" + coded}}) {
      const http::ClientReply reply = world.send(method, path, {}, admin);
      INFO(method, " ", path, " ", reply.status, " ", reply.body);
      CHECK(reply.status < 500);
    }
    CHECK(world.send("GET", "/v1/models", {}, "far_" + one_word).status == 401);
    http::ClientRequest resumed;
    resumed.method = "POST";
    resumed.url = world.url("/inference/generate");
    resumed.body = R"({"prompt":"x"})";
    resumed.headers.add("Last-Event-ID", sql + ":1");
    resumed.headers.add("traceparent", sql);
    CHECK(world.client.send(resumed)->status == 404);
    // Everything is still there.
    CHECK(world.session(one_word).tokens_generated == 4);
    CHECK(world.get("/api/keys", 200, admin).at("keys").size() == 2);
    CHECK(ContributionLedger(world.store).audit()->findings.empty());
  }

  TEST_CASE("a key that is revoked is refused from then on") {
    World world;
    const std::string admin = world.key({.admin = true});
    const json made = world.post("/api/keys", {{"name", "app"}}, 201, admin);
    const std::string secret = made.at("secret");
    world.get("/v1/models", 200, secret);
    CHECK(world.send("DELETE", "/api/keys/" + made.at("key_id").get<std::string>(), {}, admin)
              .status == 200);
    CHECK(world.get("/v1/models", 401, secret).at("error").at("code") == "invalid_api_key");
    CHECK(world.get("/api/keys", 200, admin).dump().find(secret) == std::string::npos);
  }

  TEST_CASE("bytes that are no UTF-8 are refused wherever they stand") {
    World world;
    for (const char* path :
         {"/v1/chat/completions", "/v1/completions", "/inference/generate", "/api/inference/chat",
          "/api/inference/quote", "/api/auth/login", "/api/nodes/register-distributed"}) {
      const http::ClientReply reply =
          world.send("POST", path, "{\"model\":\"short\",\"prompt\":\"\xff\xfe\"}");
      INFO(path, " ", reply.body);
      CHECK(reply.status >= 400);
      CHECK(reply.status < 500);
      CHECK(json::accept(reply.body));
    }
    for (const char* path : {"/mesh/status?model_id=%ff", "/v1/models/%c3%28", "/api/inference/%fe",
                             "/api/auth/nonce?wallet=%80"}) {
      const http::ClientReply reply = world.send("GET", path);
      INFO(path, " ", reply.body);
      CHECK(reply.status >= 400);
      CHECK(reply.status < 500);
      CHECK(json::accept(reply.body));
    }
  }

  TEST_CASE("a wallet whose checksum is wrong is refused wherever it stands") {
    World world;
    CHECK(world.get("/api/auth/nonce?wallet=" + kMistyped, 400).at("code") == "wallet_invalid");
    CHECK(world
              .post("/api/auth/login",
                    {{"wallet_address", kMistyped}, {"signature", "0x"}, {"message", "x"}}, 400)
              .at("code") == "wallet_invalid");
    for (const char* path :
         {"/inference/generate", "/api/inference/generate", "/api/inference/distributed/generate",
          "/api/inference/chat", "/api/inference/quote"}) {
      const json refused = world.post(path, {{"prompt", "x"}, {"user_wallet", kMistyped}}, 400);
      CHECK(refused.at("code") == "wallet_invalid");
      CHECK(refused.at("param") == "user_wallet");
    }
    CHECK(world.get("/api/nodes/earnings/" + kMistyped, 400).at("code") == "wallet_invalid");
    CHECK(world.get("/api/auth/nonce?wallet=" + kWallet).contains("nonce"));
  }
}

}  // namespace farmesh::test
