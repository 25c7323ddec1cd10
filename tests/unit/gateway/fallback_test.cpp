// What answers when the mesh cannot, and how that is told and billed.
#include "gateway/fallback.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

// Gives nothing until it is cancelled.
class SilentModel final : public gateway::Model {
 public:
  class Tokens final : public gateway::TurnTokens {
   public:
    Result<std::optional<Token>> next() override {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return cancelled_; });
      return std::optional<Token>();
    }
    void cancel() override {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      changed_.notify_all();
    }
    Usage usage() const override { return {.prompt_tokens = 3, .finish = FinishReason::cancelled}; }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool cancelled_ = false;
  };

  std::unique_ptr<gateway::TurnTokens> start(const gateway::TurnInput&) override {
    return std::make_unique<Tokens>();
  }
  gateway::ModelState state() const override { return ScriptedModel().state(); }
  std::string node_id(const std::string&) const override { return {}; }
  std::string token_bytes(TokenId) const override { return {}; }
};

// The operator's own machine: its peers are no nodes.
class LocalModel final : public gateway::Model {
 public:
  std::shared_ptr<ScriptedModel> inner = std::make_shared<ScriptedModel>();

  std::unique_ptr<gateway::TurnTokens> start(const gateway::TurnInput& input) override {
    class Local final : public gateway::TurnTokens {
     public:
      explicit Local(std::unique_ptr<gateway::TurnTokens> inner) : inner_(std::move(inner)) {}
      Result<std::optional<Token>> next() override { return inner_->next(); }
      void cancel() override { inner_->cancel(); }
      Usage usage() const override {
        Usage usage = inner_->usage();
        for (auto* routes : {&usage.routes, &usage.prompt_routes}) {
          for (RouteUsage& route : *routes) route.hops = {{"local", {0, 4}, 0}};
        }
        for (RouteUsage& route : usage.prompt_routes) route.hops = {{"local", {0, 4}, 0}};
        return usage;
      }

     private:
      std::unique_ptr<gateway::TurnTokens> inner_;
    };
    return std::make_unique<Local>(inner->start(input));
  }
  gateway::ModelState state() const override { return inner->state(); }
  std::string node_id(const std::string&) const override { return {}; }
  std::string token_bytes(TokenId id) const override { return inner->token_bytes(id); }
};

// The scripted mesh, whose peer "local" is the operator.
class Mesh final : public gateway::Model {
 public:
  std::shared_ptr<ScriptedModel> inner = std::make_shared<ScriptedModel>();

  std::unique_ptr<gateway::TurnTokens> start(const gateway::TurnInput& input) override {
    return inner->start(input);
  }
  gateway::ModelState state() const override { return inner->state(); }
  std::string node_id(const std::string& peer) const override {
    return peer == "local" ? std::string() : inner->node_id(peer);
  }
  std::string token_bytes(TokenId id) const override { return inner->token_bytes(id); }
};

void serve(World& world, std::shared_ptr<gateway::Model> mesh,
           std::shared_ptr<gateway::Model> fallback,
           std::chrono::milliseconds patience = std::chrono::seconds(20)) {
  gateway::FallbackOptions options;
  options.first_token = patience;
  world.host.find("")->model =
      std::make_shared<gateway::FallbackModel>(std::move(mesh), std::move(fallback), options);
}

const json kPrompt{{"prompt", "Hi"}, {"stream", false}, {"request_id", "r"}};

}  // namespace

TEST_SUITE("gateway/fallback") {
  TEST_CASE("while the mesh answers, nobody else is asked") {
    World world;
    const auto mesh = std::make_shared<Mesh>();
    const auto local = std::make_shared<LocalModel>();
    serve(world, mesh, local);
    const http::ClientReply reply = world.send("POST", "/inference/generate", kPrompt.dump());
    CHECK_FALSE(reply.headers.get("X-FarMesh-Fallback"));
    CHECK_FALSE(json::parse(reply.body).contains("fallback"));
    CHECK(local->inner->started == 0);
  }

  TEST_CASE("a mesh that has no route is stood in for: marked, at the same price, the operator's") {
    World world;
    const auto mesh = std::make_shared<Mesh>();
    mesh->inner->failure = Error{Errc::no_route, "layer 2"};
    serve(world, mesh, std::make_shared<LocalModel>());
    const http::ClientReply reply = world.send("POST", "/inference/generate", kPrompt.dump());
    CHECK(reply.status == 200);
    CHECK(reply.headers.get("X-FarMesh-Fallback") == "true");
    const json body = json::parse(reply.body);
    CHECK(body.at("text") == "Once upon a time");
    CHECK(body.at("fallback") == true);
    CHECK(reply.body.find(R"("cost_far":0.0004)") != std::string::npos);
    const SessionRecord record = world.session("r");
    CHECK(record.contributions.empty());
    CHECK(record.operator_tokens == 4);
    CHECK(record.operator_pay == *Far::parse("0.0004"));
    const std::string metrics = world.send("GET", "/metrics").body;
    CHECK(metrics.find("far_mesh_fallback_requests_total") != std::string::npos);
  }

  TEST_CASE("a mesh that breaks in mid-answer is paid for its tokens; the rest is the operator's") {
    World world;
    const auto mesh = std::make_shared<Mesh>();
    mesh->inner->failure = Error{Errc::connection_lost, ""};
    mesh->inner->fail_after = 3;
    serve(world, mesh, std::make_shared<LocalModel>());
    const auto events =
        world.events("/inference/generate", {{"prompt", "Hi"}, {"request_id", "r"}});
    REQUIRE(events.size() == 5);
    CHECK(json::parse(events[3]).at("token") == " time");
    CHECK(json::parse(events[4]).at("fallback") == true);
    const SessionRecord record = world.session("r");
    CHECK(record.tokens_generated == 4);
    CHECK(record.operator_tokens == 1);
    REQUIRE(record.contributions.size() == 2);
    CHECK(record.contributions[0].tokens + record.contributions[1].tokens == 3);
  }

  TEST_CASE("a mesh without a first token in time is given up") {
    World world;
    serve(world, std::make_shared<SilentModel>(), std::make_shared<LocalModel>(),
          std::chrono::milliseconds(1));
    CHECK(world.post("/inference/generate", kPrompt).at("fallback") == true);
  }

  TEST_CASE("what is the request's own fault is no reason for the fallback") {
    World world;
    const auto mesh = std::make_shared<Mesh>();
    const auto local = std::make_shared<LocalModel>();
    mesh->inner->failure = Error{Errc::context_exceeded, "too long"};
    serve(world, mesh, local);
    CHECK(world.post("/inference/generate", kPrompt, 400).at("code") == "context_length_exceeded");
    CHECK(local->inner->started == 0);
  }

  TEST_CASE("an OpenAI-compatible server stands in, with its key, for prompts and for chats") {
    World upstream;
    const std::string key = upstream.key({.infer = true}, *Far::parse("1"));
    World world;
    const auto mesh = std::make_shared<Mesh>();
    mesh->inner->failure = Error{Errc::no_route, ""};
    const auto serve_upstream = [&](const std::string& url) {
      gateway::UpstreamOptions options;
      options.url = url;
      options.key = key;
      options.model = "org/model";
      options.client.proxy_from_environment = false;
      serve(world, mesh, std::make_shared<gateway::UpstreamModel>(options, 4));
    };
    serve_upstream(upstream.url("/v1"));
    CHECK(world.post("/inference/generate", kPrompt).at("text") == "Once upon a time");
    CHECK(world.session("r").operator_tokens == 4);
    const json chat{{"model", "short"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
    const json said = world.post("/v1/chat/completions", chat);
    CHECK(said.at("choices").at(0).at("message").at("content") == "Once upon a time");
    CHECK(said.at("choices").at(0).at("finish_reason") == "stop");
    CHECK(said.at("system_fingerprint") == "fp_fallback");
    {
      const std::lock_guard lock(upstream.model->mutex);
      CHECK(upstream.model->inputs.size() == 2);
      CHECK(std::get<std::string>(upstream.model->inputs[0].prompt) == "Hi");
    }
    // Tokens without ids cannot be gone on with.
    const auto events =
        world.events("/inference/generate", {{"prompt", "Hi"}, {"request_id", "s"}});
    CHECK(events.size() == 5);
    http::ClientRequest again;
    again.method = "POST";
    again.url = world.url("/inference/generate");
    again.body = json{{"prompt", "Hi"}, {"request_id", "s"}}.dump();
    again.headers.add("Last-Event-ID", "s:2");
    const auto refused = world.client.send(again);
    REQUIRE(refused);
    CHECK(refused->status == 409);

    // One that refuses is a failure like the mesh's, and tells nothing of its own.
    serve_upstream(upstream.url("/nothing"));
    const json failed =
        world.post("/inference/generate", {{"prompt", "x"}, {"stream", false}}, 503);
    CHECK(failed.at("code") == "connection_lost");
    CHECK(world.post("/v1/completions", {{"model", "short"}, {"prompt", {1, 2}}}, 503)
              .at("error")
              .at("code") == "no_route");
  }
}

}  // namespace farmesh::test
