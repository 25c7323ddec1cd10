// A model that says what a test tells it to, token by token, and a coordinator around it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "gateway/coordinator.hpp"
#include "http/client.hpp"
#include "http/event_parser.hpp"
#include "ledger/access.hpp"
#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::test {

inline const std::string kNodeA(64, 'a');
inline const std::string kNodeB(64, 'b');

class ScriptedModel final : public gateway::Model {
 public:
  std::vector<std::string> words{"Once", " upon", " a", " time"};
  std::optional<Error> failure;  // instead of the word after fail_after
  std::size_t fail_after = 0;
  std::atomic<bool> endless{false};   // says the last word until it is cancelled
  std::size_t hold_after = SIZE_MAX;  // tokens: the next comes only when it is cancelled
  std::uint32_t context_tokens = 512;
  std::atomic<int> started{0};
  std::atomic<int> cancelled{0};
  std::mutex mutex;
  std::vector<gateway::TurnInput> inputs;  // as they came
  bool covered = true;
  std::uint32_t cached_prompt_tokens = 0;  // of the three that every prompt has
  std::function<void(const std::shared_ptr<driver::Bill>&)> on_ask;  // after receipts

  std::unique_ptr<gateway::TurnTokens> start(const gateway::TurnInput& input) override;

  gateway::ModelState state() const override {
    gateway::ModelState state;
    state.summary.model_hash = std::string(64, '0');
    state.summary.numerics_class = "f32/exact-2/fma";
    state.summary.num_layers = 4;
    state.summary.hidden_size = 16;
    state.summary.context_tokens = context_tokens;
    state.summary.peers = {
        {.address = "a", .node_id = kNodeA, .connected = true, .layers = {0, 2}},
        {.address = "b", .node_id = kNodeB, .connected = covered, .layers = {2, 4}}};
    return state;
  }
  std::string node_id(const std::string& peer) const override {
    return peer == "a" ? kNodeA : kNodeB;
  }
  std::string token_bytes(TokenId id) const override {
    return id < words.size() ? words[id] : std::string();
  }
  void ask_receipts(const std::shared_ptr<driver::Bill>& bill) override {
    if (on_ask) on_ask(bill);
  }
};

class ScriptedTokens final : public gateway::TurnTokens {
 public:
  ScriptedTokens(ScriptedModel& model, const GenerateOptions& options)
      : model_(model), resume_(options.resume), max_tokens_(options.max_tokens) {}
  ~ScriptedTokens() override { cancel(); }

  Result<std::optional<Token>> next() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return cancelled_ || told_ < model_.hold_after; });
    if (model_.failure && told_ == model_.fail_after) return *model_.failure;
    if (cancelled_) return end(FinishReason::cancelled);
    if (told_ == max_tokens_) return end(FinishReason::length);
    if (!model_.endless && told_ == model_.words.size()) return end(FinishReason::stop);
    Token token;
    token.id = TokenId(std::min<std::size_t>(told_, model_.words.size() - 1));
    token.text = model_.words[token.id];
    if (told_++ < resume_.size()) {
      CHECK(token.id == resume_[told_ - 1]);
      return std::optional<Token>(std::move(token));
    }
    token.logprob = -0.5f;
    token.top = {{token.id, -0.5f}, {0, -3}};
    if (usage_.routes.empty()) {
      usage_.routes.push_back({0, {{"a", {0, 2}, 0}, {"b", {2, 4}, 0}}});
      usage_.prompt_routes.push_back({3 - model_.cached_prompt_tokens, usage_.routes[0].hops});
    }
    ++usage_.tokens;
    ++usage_.routes.back().tokens;
    return std::optional<Token>(std::move(token));
  }
  void cancel() override {
    const std::lock_guard lock(mutex_);
    if (cancelled_ || ended_) return;
    cancelled_ = true;
    ++model_.cancelled;
    changed_.notify_all();
  }
  Usage usage() const override {
    const std::lock_guard lock(mutex_);
    return usage_;
  }

 private:
  std::optional<Token> end(FinishReason reason) {
    usage_.finish = reason;
    ended_ = true;
    return std::nullopt;
  }

  ScriptedModel& model_;
  const std::vector<TokenId> resume_;
  const std::uint32_t max_tokens_;
  std::size_t told_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Usage usage_{.prompt_tokens = 3};
  bool cancelled_ = false;
  bool ended_ = false;
};

inline std::unique_ptr<gateway::TurnTokens> ScriptedModel::start(const gateway::TurnInput& input) {
  ++started;
  const std::lock_guard lock(mutex);
  inputs.push_back(input);
  return std::make_unique<ScriptedTokens>(*this, input.options);
}

/// A coordinator on a loopback port, over SQLite, with the scripted model as "org/model".
class World {
 public:
  struct Options {
    Far public_budget = Far::from_units(Far::kUnitsPerFar);
    bool metered = true;
    Far prompt_price;
    gateway::CoordinatorOptions coordinator{};
    http::ServerOptions serving{};
  };
  World() : World(Options{}) {}
  explicit World(Options options) : model(std::make_shared<ScriptedModel>()) {
    if (options.metered) {
      auto opened = ledger::Store::open({.url = folder.path() / "ledger.sqlite", .durable = false});
      REQUIRE(opened);
      store = *opened;
    }
    host.add({"org/model", "", Far::from_units(10'000), options.prompt_price}, model);
    host.set_aliases({{"short", "org/model"}});
    gateway::CoordinatorOptions& chosen = options.coordinator;
    chosen.version = "0.1.0";
    chosen.coordinator_id = "test";
    chosen.public_budget = options.public_budget;
    chosen.gatekeeper.open_to_public = !options.public_budget.is_zero();
    coordinator = std::make_unique<gateway::Coordinator>(chosen, host, store);
    http::ServerOptions& serving = options.serving;
    serving.render = gateway::Coordinator::render;
    serving.on_finished = [this](const http::Finished& done) { coordinator->finished(done); };
    auto started = http::Server::start(coordinator->router(), serving);
    REQUIRE(started);
    server = *std::move(started);
  }

  std::string url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(server->port()) + path;
  }

  http::ClientReply send(const std::string& method, const std::string& path,
                         const std::string& body = {}, const std::string& key = {}) {
    http::ClientRequest request;
    request.method = method;
    request.url = url(path);
    request.body = body;
    if (!key.empty()) request.headers.add("Authorization", "Bearer " + key);
    Result<http::ClientReply> reply = client.send(request);
    INFO((reply ? std::string() : reply.error().to_string()));
    REQUIRE(reply);
    return *std::move(reply);
  }
  nlohmann::json get(const std::string& path, int status = 200, const std::string& key = {}) {
    const http::ClientReply reply = send("GET", path, {}, key);
    INFO(path, " ", reply.body);
    CHECK(reply.status == status);
    return nlohmann::json::parse(reply.body);
  }
  nlohmann::json post(const std::string& path, const nlohmann::json& body, int status = 200,
                      const std::string& key = {}) {
    const http::ClientReply reply = send("POST", path, body.dump(), key);
    INFO(path, " ", reply.body);
    CHECK(reply.status == status);
    return nlohmann::json::parse(reply.body, nullptr, false);
  }
  /// The data of every event.
  std::vector<std::string> events(const std::string& path, const nlohmann::json& body) {
    const http::ClientReply reply = send("POST", path, body.dump());
    INFO(reply.body);
    REQUIRE(reply.status == 200);
    std::vector<std::string> all;
    http::EventParser parser([&all](const http::ReceivedEvent& event) {
      all.push_back(event.data);
      return true;
    });
    REQUIRE(parser.feed(reply.body));
    return all;
  }
  std::string key(ledger::Scopes scopes, Far credit = {}) {
    ledger::ApiKey wanted;
    wanted.scopes = scopes;
    const auto made = ledger::ApiKeys(store).create(wanted);
    REQUIRE(made);
    if (!credit.is_zero()) {
      REQUIRE(ledger::Credits(store).deposit(made->key.account, credit, made->key.key_id));
    }
    return made->secret;
  }
  SessionRecord session(const std::string& request_id) {
    const auto record = ContributionLedger(store).session_of_request(request_id);
    REQUIRE(record);
    return *record;
  }

  TempDir folder;
  std::shared_ptr<ScriptedModel> model;
  std::shared_ptr<ledger::Store> store;
  gateway::ModelHost host;
  std::unique_ptr<gateway::Coordinator> coordinator;
  std::unique_ptr<http::Server> server;
  http::Client client{{.proxy_from_environment = false}};
};

}  // namespace farmesh::test
