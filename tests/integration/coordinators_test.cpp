// What a coordinator knows that it did not see itself: another's requests, what nodes have to say
// of sessions that a crash ended, and which nodes may serve whom.
#include "integration/coordinators.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/secret_file.hpp"
#include "support/postgres_server.hpp"
#include "support/redis_server.hpp"

namespace farmesh::test {
namespace {

http::ClientReply send(const std::string& method, const std::string& url, const json& body = {}) {
  http::Client client{{.read_timeout = std::chrono::minutes(2), .proxy_from_environment = false}};
  auto reply =
      client.send({.method = method, .url = url, .body = body.is_null() ? "" : body.dump()});
  REQUIRE(reply);
  return *std::move(reply);
}

json platform_request(const std::string& id, std::uint32_t tokens, bool stream) {
  return {{"prompt", "Once upon a time"},
          {"request_id", id},
          {"max_tokens", tokens},
          {"stream", stream},
          {"seed", 7},
          {"temperature", 0.0}};
}

// Nodes that stand still while this lives: what they are making is neither ended nor lost.
class StandStill {
 public:
  explicit StandStill(std::vector<cli::NodeProcess>& nodes) : nodes_(nodes) { send(SIGSTOP); }
  ~StandStill() { send(SIGCONT); }
  StandStill(const StandStill&) = delete;

 private:
  void send(int number) {
    for (cli::NodeProcess& node : nodes_) node.process().signal(number);
  }
  std::vector<cli::NodeProcess>& nodes_;
};

// Hears a stream of the platform's to its end, or its break.
void hear(const std::string& url, const json& body, const std::function<void()>& on_event) {
  http::EventParser parser([&on_event](const http::ReceivedEvent&) {
    on_event();
    return true;
  });
  http::Client client{{.read_timeout = std::chrono::minutes(2), .proxy_from_environment = false}};
  const auto on_head = [](const http::ClientReply& head) { return head.status == 200; };
  const auto on_body = [&parser](std::string_view piece) { return bool(parser.feed(piece)); };
  (void)client.stream({.method = "POST", .url = url + "/inference/generate", .body = body.dump()},
                      on_head, on_body);
}

}  // namespace

TEST_SUITE("integration/coordinators") {
  TEST_CASE("a request that one coordinator runs is told and cancelled at another") {
    auto* const postgres = PostgresServer::get();
    const auto redis = RedisServer::start();
    if (postgres == nullptr || !redis) {
      MESSAGE("skipped: there is no PostgreSQL or no Redis here");
      return;
    }
    const std::string model = any_model();
    std::vector<cli::NodeProcess> nodes = start_nodes(model, cli::even_split(layers_of(model), 2));
    const std::string ledger = postgres->new_database();
    const auto key = scratch() / "board.key";
    REQUIRE(create_secret_file(key, "a secret that two coordinators share"));
    const auto flags =
        peer_flags(nodes) + std::vector<std::string>{"--ledger",   ledger,         "--redis",
                                                     redis->url(), "--shared-key", key.string()};
    Coordinator first(model, flags + std::vector<std::string>{"--name", "board-1"});
    Coordinator second(model, flags + std::vector<std::string>{"--name", "board-2"});
    const std::string here = second.url() + "/api/inference/";
    const auto told = [&here](const std::string& id) {
      return json::parse(send("GET", here + id).body);
    };

    // Complete at the one, the other gives its answer again and charges nothing for it.
    const json short_body = platform_request("short", 20, false);
    const http::ClientReply answer =
        send("POST", first.url() + "/api/inference/distributed/generate", short_body);
    REQUIRE(answer.status == 200);
    CHECK(told("short").at("status") == "completed");
    CHECK(told("short").at("text") == json::parse(answer.body).at("text"));
    const http::ClientReply again =
        send("POST", second.url() + "/api/inference/distributed/generate", short_body);
    CHECK(json::parse(again.body).at("text") == json::parse(answer.body).at("text"));
    json other_body = short_body;
    other_body["max_tokens"] = 21;
    CHECK(send("POST", second.url() + "/api/inference/distributed/generate", other_body).status ==
          409);
    CHECK(send("GET", here + "nobody's").status == 404);

    // Under way at the one, it is watched at the other, which ends one of two.
    std::vector<std::thread> clients;
    std::atomic<int> heard{0};
    for (const char* id : {"ended", "lost"}) {
      clients.emplace_back(
          [&, id] { hear(first.url(), platform_request(id, 400, true), [&heard] { ++heard; }); });
    }
    CHECK(soon([&heard] { return heard > 4; }));
    {
      const StandStill still(nodes);
      for (const char* id : {"ended", "lost"}) {
        CHECK(soon([&] {
          const http::ClientReply reply = send("GET", here + id);
          return reply.status == 200 && !json::parse(reply.body).at("text").empty();
        }));
        CHECK(told(id).at("status") == "active");
      }
      CHECK(send("POST", second.url() + "/inference/generate", platform_request("ended", 400, true))
                .status == 409);
      CHECK(send("DELETE", here + "ended").status == 200);
      CHECK(soon([&] { return told("ended").at("status") == "cancelled"; }));
      first.kill();
    }
    for (std::thread& client : clients) client.join();
    // Killed in the middle, it counts as failed.
    CHECK(soon([&] { return told("lost").at("status") == "failed"; }));
    CHECK(told("lost").at("code") == "coordinator_lost");
    CHECK(second.stop() == 0);
  }

  TEST_CASE("a coordinator that was killed asks its nodes for the receipts that it missed") {
    const std::string model = any_model();
    std::vector<cli::NodeProcess> nodes =
        start_nodes(model, cli::even_split(layers_of(model), 2), {"--paid"});
    const std::string ledger = sqlite("missed");
    const auto flags =
        peer_flags(nodes) + std::vector<std::string>{"--ledger", ledger, "--name", "missed"};
    std::string request;
    {
      Coordinator coordinator(model, flags);
      Listener client(completion(1, 400));
      const auto checkpointed = [&] {
        const auto store = store_at(ledger);
        const auto session = ContributionLedger(store).session_of_request(client.id());
        if (!session) return false;
        const auto log = store->transact(
            [&](ledger::Database& db) { return ledger::load_work(db, session->session_id); });
        return log && !log->output.empty();
      };
      int heard = 0;
      CHECK_FALSE(client.hear(coordinator.url(), [&] {
        if (++heard != 10 && heard != 40) return;
        const StandStill still(nodes);
        if (heard == 10) CHECK(soon(checkpointed));
        if (heard == 40) coordinator.kill();
      }));
      request = client.id();
    }
    Coordinator coordinator(model, flags);
    const auto store = store_at(ledger);
    const auto session = ContributionLedger(store).session_of_request(request);
    REQUIRE(session);
    // It is paid to the token that both nodes prove, behind the last checkpoint as well.
    CHECK(session->status == SessionStatus::failed);
    CHECK(session->tokens_generated >= 38);
    std::vector<ledger::StoredReceipt> receipts;
    CHECK(soon([&] {
      receipts = *ledger::Receipts(store).of_session(session->session_id);
      return receipts.size() >= 2;
    }));
    std::set<std::string> who;
    std::uint64_t least = UINT64_MAX;
    for (const ledger::StoredReceipt& stored : receipts) {
      who.insert(to_string(stored.receipt.receipt.node_id));
      least = std::min(least, stored.receipt.receipt.counts.decode);
    }
    CHECK(who.size() == 2);
    CHECK(least == session->tokens_generated);
    CHECK(coordinator.stop() == 0);
    CHECK(ContributionLedger(store).open_disputes()->empty());
    check_books(ledger, 0);  // the budget was filled up again behind it
  }

  TEST_CASE("nodes are paid for a stream whose only coordinator died at its first tokens") {
    const std::string model = any_model();
    std::vector<cli::NodeProcess> nodes =
        start_nodes(model, cli::even_split(layers_of(model), 2), {"--paid"});
    const std::string ledger = sqlite("first-token");
    const auto flags =
        peer_flags(nodes) + std::vector<std::string>{"--ledger", ledger, "--name", "alone"};
    Listener client(completion(1, 400));
    int heard = 0;
    {
      Coordinator coordinator(model, flags);
      CHECK_FALSE(client.hear(coordinator.url(), [&] {
        if (++heard == 6) coordinator.kill();
      }));
    }
    Coordinator coordinator(model, flags);
    const auto session = ContributionLedger(store_at(ledger)).session_of_request(client.id());
    REQUIRE(session);
    CHECK(session->status == SessionStatus::failed);
    CHECK(session->tokens_generated + 3 >= 6);  // of the last ones nodes cannot know
    CHECK(session->prompt_tokens > 0);
    CHECK(session->contributions.size() == 2);
    CHECK(coordinator.stop() == 0);
    CHECK(ContributionLedger(store_at(ledger)).open_disputes()->empty());
    check_books(ledger, 0);  // the budget was filled up again behind it
  }

  TEST_CASE("two models and a local fallback stand beside one key, known by a key each") {
    const std::string model = any_model();
    std::vector<cli::NodeProcess> nodes =
        start_nodes(model, cli::even_split(layers_of(model), 2), {"--paid"});
    const auto key = scratch() / "two.key";
    const auto flags = peer_flags(nodes) +
                       std::vector<std::string>{"--model",           "other=" + model,   "--key",
                                                key.string(),        "--fallback-local", "--ledger",
                                                sqlite("two-models")};
    const auto ask = [](const Coordinator& at, const char* id) {
      const json body{{"model", id},
                      {"prompt", "Once"},
                      {"max_tokens", 12},
                      {"temperature", 0},
                      {"ignore_eos", true}};
      http::ClientReply reply = send("POST", at.url() + "/v1/completions", body);
      INFO(reply.body);
      REQUIRE(reply.status == 200);
      return reply;
    };
    const auto text = [](const http::ClientReply& reply) {
      return json::parse(reply.body).at("choices").at(0).at("text").get<std::string>();
    };
    std::string said;
    for (int start = 0; start < 2; ++start) {  // with keys that it makes, and with those it finds
      Coordinator coordinator(model, flags);
      for (const char* id : {"m", "other"}) {
        const http::ClientReply served = ask(coordinator, id);
        CHECK_FALSE(served.headers.get("X-FarMesh-Fallback"));
        if (said.empty()) said = text(served);
        CHECK(text(served) == said);
      }
      if (start == 1) {
        for (cli::NodeProcess& node : nodes) {
          node.process().signal(SIGKILL);
          node.process().wait();
        }
        for (const char* id : {"m", "other"}) {
          const http::ClientReply stood_in = ask(coordinator, id);
          CHECK(stood_in.headers.get("X-FarMesh-Fallback") == "true");
          CHECK(text(stood_in) == said);
        }
      }
      CHECK(coordinator.stop() == 0);
    }
    CHECK(read_secret_file(key));
    CHECK(read_secret_file(key.string() + "-2"));
    CHECK_FALSE(std::filesystem::exists(key.string() + "-3"));
    check_books(sqlite("two-models"), 4 * 12);  // since the budget was filled up last
  }

  TEST_CASE("tokens that a coordinator guesses ahead change neither text nor bill") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2), {"--paid"});
    constexpr std::uint32_t kTokens = 80;
    std::vector<std::string> texts;
    std::vector<std::uint64_t> rejected;
    for (const char* guesses : {"0", "8"}) {
      const std::string ledger = sqlite(std::string("guesses-") + guesses);
      Coordinator coordinator(
          model,
          peer_flags(nodes) + std::vector<std::string>{"--ledger", ledger, "--max-draft", guesses});
      json body = completion(3, kTokens);
      body["prompt"] = "the owl and the fox and the owl and the fox and the owl and the";
      Listener client(body);
      CHECK(client.hear(coordinator.url()));
      texts.push_back(client.text());
      CHECK(client.usage().at("cost_far") == kPrice.times(kTokens)->to_string());
      CHECK(coordinator.stop() == 0);
      check_books(ledger, kTokens);
      check_receipts(ledger, /*nodes_died=*/false);  // every node's output, to the token
      const auto store = store_at(ledger);
      const auto session = ContributionLedger(store).session_of_request(client.id());
      REQUIRE(session);
      std::uint64_t rows = 0;
      const auto receipts = ledger::Receipts(store).of_session(session->session_id);
      for (const ledger::StoredReceipt& stored : *receipts) {
        rows = std::max(rows, stored.receipt.receipt.counts.rejected);
      }
      rejected.push_back(rows);
    }
    CHECK(texts[0] == texts[1]);
    CHECK(rejected[1] > rejected[0]);  // guessed wrong, computed, and paid by nobody
  }

  TEST_CASE("a tier is served by its nodes, and by no others unless they may") {
    const std::string model = any_model();
    const std::uint32_t layers = layers_of(model);
    std::vector<cli::NodeProcess> nodes = start_nodes(model, {{0, layers}, {0, layers}});
    const auto used = [](const json& answer) {
      std::set<std::string> ids;
      for (const json& node : answer.at("nodes_used")) ids.insert(node.at("node_id"));
      return ids;
    };
    const std::string generate = "/api/inference/distributed/generate";
    std::string chosen;
    {
      Coordinator plain(model, {"--peer", nodes[1].address(), "--ledger", sqlite("plain")});
      const auto answer = send("POST", plain.url() + generate, platform_request("p", 5, false));
      REQUIRE(answer.status == 200);
      chosen = *used(json::parse(answer.body)).begin();
      CHECK(plain.stop() == 0);
    }
    const auto with_rule = [&](const std::string& name, const json& rule) {
      const auto file = scratch() / (name + ".json");
      std::ofstream(file) << json{{"standard", rule}}.dump();
      return peer_flags(nodes) +
             std::vector<std::string>{"--ledger", sqlite(name), "--tiers", file.string()};
    };
    const json ours = json::array({chosen});
    Coordinator strict(model, with_rule("strict", {{"nodes", ours}}));
    Coordinator lenient(model, with_rule("lenient", {{"nodes", ours}, {"others_too", true}}));
    const auto ask = [&](const Coordinator& at, const std::string& id) {
      return send("POST", at.url() + generate, platform_request(id, 20, false));
    };
    for (const char* id : {"1", "2", "3"}) {
      for (const Coordinator* at : {&strict, &lenient}) {
        const http::ClientReply answer = ask(*at, id);
        REQUIRE(answer.status == 200);
        CHECK(used(json::parse(answer.body)) == std::set<std::string>{chosen});
      }
    }
    nodes[1].process().signal(SIGKILL);
    const http::ClientReply refused = ask(strict, "4");
    CHECK(refused.status == 503);
    const http::ClientReply served = ask(lenient, "4");
    REQUIRE(served.status == 200);
    CHECK_FALSE(used(json::parse(served.body)).contains(chosen));
    CHECK(strict.stop() == 0);
    CHECK(lenient.stop() == 0);
  }
}

}  // namespace farmesh::test
