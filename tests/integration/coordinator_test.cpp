// Coordinators as processes: streams that outlive the coordinator and the nodes that make them,
// and a ledger in which every token is charged once.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <iostream>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/secret_file.hpp"
#include "integration/coordinators.hpp"
#include "model/synth.hpp"
#include "support/postgres_server.hpp"
#include "support/redis_server.hpp"

namespace farmesh::test {
namespace {

// --- nodes that die ------------------------------------------------------------------------------

// Three nodes over one another, so that any one of them may be gone; each keeps its key and port.
class Nodes {
 public:
  Nodes(std::string model, std::string name) : model_(std::move(model)) {
    const std::uint32_t layers = layers_of(model_);
    const std::uint32_t third = (layers + 2) / 3;
    const std::vector<Span> spans{{0, layers - third}, {third, layers}, {0, layers}};
    for (std::size_t i = 0; i < spans.size(); ++i) {
      folders_.push_back(scratch() / (name + "-node-" + std::to_string(i)));
      nodes_.push_back(start(spans[i], i, "127.0.0.1:0"));
    }
  }

  std::vector<std::string> flags() const { return peer_flags(nodes_); }

  void kill_and_renew(std::size_t i) {
    nodes_[i].process().signal(SIGKILL);
    nodes_[i].process().wait();
    const Span span = nodes_[i].layers();
    nodes_[i] = start(span, i, nodes_[i].address());
  }

 private:
  cli::NodeProcess start(Span span, std::size_t i, const std::string& listen) {
    auto node = cli::NodeProcess::start({.program = kProgram,
                                         .model = model_,
                                         .layers = span,
                                         .listen = listen,
                                         .data_folder = folders_[i].string(),
                                         .more = {"--threads", "1", "--paid"}});
    REQUIRE(node);
    const Result<void> listening = node->await_listening(std::chrono::minutes(1));
    INFO((listening ? "" : listening.error().to_string()));
    REQUIRE(listening);
    return *std::move(node);
  }

  const std::string model_;
  std::vector<std::filesystem::path> folders_;
  std::vector<cli::NodeProcess> nodes_;
};

struct Storm {
  std::size_t clients = 6;
  std::uint32_t tokens = 100;
  std::size_t deaths = 2;
  std::chrono::milliseconds between{0};  // 0: as soon as the clients have heard some more
  std::chrono::seconds lasts{0};         // clients begin again until then
};

void weather(const Storm& storm, const std::string& ledger, const std::string& name) {
  const std::string model = any_model();
  Nodes nodes(model, name);
  const std::string clients = std::to_string(storm.clients);
  const auto flags =
      nodes.flags() +
      std::vector<std::string>{"--ledger", ledger, "--max-turns", clients, "--max-account-turns",
                               clients};
  Coordinator coordinator(model, flags);
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < storm.clients; ++i) {
    expected.push_back(whole_text(coordinator.url(), completion(i, storm.tokens)));
  }

  std::atomic<std::uint64_t> events{0}, tokens{storm.clients * storm.tokens}, wrong{0};
  std::atomic<std::size_t> running{storm.clients};
  std::mutex mutex;
  std::vector<std::string> ids, complaints;
  const auto until = steady_clock::now() + storm.lasts;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < storm.clients; ++i) {
    threads.emplace_back([&, i] {
      do {
        Listener client(completion(i, storm.tokens));
        const bool whole = client.hear(coordinator.url(), [&events] { ++events; });
        const std::lock_guard lock(mutex);
        ids.push_back(client.id());
        if (whole && client.text() == expected[i]) {
          tokens += storm.tokens;
        } else {
          ++wrong;
          complaints.push_back(client.refusal().empty() ? client.text() : client.refusal());
        }
      } while (steady_clock::now() < until);
      --running;
    });
  }
  for (std::size_t death = 0; running > 0 && (death < storm.deaths || steady_clock::now() < until);
       ++death) {
    const std::uint64_t heard = events;
    const auto next = steady_clock::now() + storm.between;
    (void)soon([&] {
      return running == 0 || (events > heard + 3 * storm.clients && steady_clock::now() >= next);
    });
    if (running > 0) nodes.kill_and_renew((death + 2) % 3);  // first the one that can do alone
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& complaint : complaints) MESSAGE(complaint);
  CHECK(wrong == 0);
  CHECK(coordinator.stop() == 0);
  ContributionLedger book(store_at(ledger));
  std::uint64_t in_ledger = storm.clients * storm.tokens;
  for (const std::string& id : ids) in_ledger += charged(book, id);
  CHECK(in_ledger == tokens);
  check_books(ledger, tokens);
  check_receipts(ledger, /*nodes_died=*/true);
  std::cerr << name << ": " << ids.size() << " streams, " << tokens << " tokens\n";
}

}  // namespace

TEST_SUITE("integration/coordinator") {
  TEST_CASE("coordinators are killed under load: their clients go on at others, nothing is lost") {
    auto* const postgres = PostgresServer::get();
    const auto redis = RedisServer::start();
    if (postgres == nullptr || !redis) {
      MESSAGE("skipped: there is no PostgreSQL or no Redis here");
      return;
    }
    constexpr std::size_t kClients = 8;
    constexpr std::uint32_t kTokens = 120;
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2));
    const std::string ledger = postgres->new_database();
    const auto key = scratch() / "shared.key";
    REQUIRE(create_secret_file(key, "a secret that two coordinators share"));
    const auto flags =
        peer_flags(nodes) + std::vector<std::string>{"--ledger",   ledger,         "--redis",
                                                     redis->url(), "--shared-key", key.string()};
    Coordinator first(model, flags + std::vector<std::string>{"--name", "first"});
    Coordinator second(model, flags + std::vector<std::string>{"--name", "second"});
    Coordinator third(model, flags + std::vector<std::string>{"--name", "third"});
    std::vector<std::string> expected;
    for (std::size_t i = 0; i < kClients; ++i) {
      expected.push_back(whole_text(third.url(), completion(i, kTokens)));
    }

    std::vector<Listener> clients;
    for (std::size_t i = 0; i < kClients; ++i) clients.emplace_back(completion(i, kTokens));
    constexpr std::size_t kKilled = 2;
    std::vector<std::atomic<int>> events(kKilled * kClients);
    std::vector<std::size_t> told(kKilled * kClients);  // items, when the stream broke
    std::atomic<int> broken{0};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kClients; ++i) {
      threads.emplace_back([&, i] {
        for (const Coordinator* at : {&first, &second}) {
          const std::size_t part = (at == &first ? 0 : kClients) + i;
          if (clients[i].hear(at->url(), [&events, part] { ++events[part]; })) return;
          ++broken;
          const auto last = gateway::parse_event_id(clients[i].last_id());
          told[part] = last ? last->items : 0;
        }
        (void)clients[i].hear(third.url());
      });
    }
    // Some sessions were saved to the ledger by then, some tokens were not.
    for (std::size_t part = 0; part < kKilled; ++part) {
      const auto heard = std::span(events).subspan(part * kClients, kClients);
      CHECK(soon([&] { return std::ranges::all_of(heard, [](const auto& n) { return n > 8; }); }));
      (part == 0 ? first : second).kill();
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(broken == kKilled * kClients);

    ContributionLedger book(store_at(ledger));
    for (std::size_t i = 0; i < kClients; ++i) {
      INFO("client ", i, " ", clients[i].last_id(), " ", clients[i].refusal());
      CHECK(clients[i].text() == expected[i]);
      REQUIRE(clients[i].usage().is_object());
      CHECK(clients[i].usage().at("completion_tokens") == kTokens);
      CHECK(clients[i].usage().at("cost_far") == kPrice.times(kTokens)->to_string());
      CHECK(charged(book, clients[i].id()) == kTokens);
      // The nodes proved to each what its client had from the one before, made again or not.
      std::uint64_t proven = 0;
      for (unsigned part = 0; part < kKilled; ++part) {
        const auto session =
            book.session_of_request(gateway::session_request_id(clients[i].id(), part));
        REQUIRE(session);
        proven += session->tokens_generated;
        CHECK(proven + 3 >= told[part * kClients + i]);
      }
    }
    // What nodes of a resumed session did again is in their receipts, and no cause for a dispute.
    ledger::Receipts receipts(store_at(ledger));
    for (const Listener& client : clients) {
      const auto session =
          book.session_of_request(gateway::session_request_id(client.id(), kKilled - 1));
      REQUIRE(session);
      CHECK(soon([&] {
        const auto all = receipts.of_session(session->session_id);
        return all && all->size() >= nodes.size();
      }));
    }
    const auto disputes = book.open_disputes();
    REQUIRE(disputes);
    for (const Dispute& dispute : *disputes) {
      FAIL_CHECK("session ", dispute.session_id, " layers ", dispute.layers.begin, ":",
                 dispute.layers.end, " claimed ", dispute.claimed_tokens, " logged ",
                 dispute.logged_tokens);
    }
    CHECK(third.stop() == 0);
    check_books(ledger, 2 * kClients * kTokens);
  }

  TEST_CASE("512 tokens over three nodes cost 0.0512, shared by layers or equally") {
    const auto folder = scratch() / "deep";
    REQUIRE(model::write_synthetic_model(folder, {.shape = "deep", .dtype = DType::f32}));
    const auto nodes = start_nodes(folder, {{0, 11}, {11, 22}, {22, 32}});
    struct Policy {
      const char* name;
      std::vector<std::uint32_t> tokens;
      std::vector<const char*> pay;
    };
    const std::vector<Policy> policies{
        {"equal", {170, 171, 171}, {"0.0170", "0.0171", "0.0171"}},
        {"layer_units", {176, 176, 160}, {"0.0176", "0.0176", "0.0160"}}};
    auto* const postgres = PostgresServer::get();
    if (postgres == nullptr) MESSAGE("without PostgreSQL: SQLite alone");
    for (const Policy& policy : policies) {
      std::vector<std::string> ledgers{sqlite(std::string("published-") + policy.name)};
      if (postgres != nullptr) ledgers.push_back(postgres->new_database());
      for (const std::string& ledger : ledgers) {
        INFO(policy.name, " ", ledger);
        Coordinator coordinator(
            folder, peer_flags(nodes) +
                        std::vector<std::string>{"--ledger", ledger, "--split", policy.name});
        Listener client(completion(1, 512));
        CHECK(client.hear(coordinator.url()));
        REQUIRE(client.usage().is_object());
        CHECK(client.usage().at("completion_tokens") == 512);
        CHECK(client.usage().at("cost_far") == "0.0512");
        CHECK(coordinator.stop() == 0);
        const auto session = ContributionLedger(store_at(ledger)).session_of_request(client.id());
        REQUIRE(session);
        CHECK(session->total_cost == *Far::parse("0.0512"));
        REQUIRE(session->contributions.size() == 3);
        for (std::size_t i = 0; i < 3; ++i) {
          CHECK(session->contributions[i].tokens == policy.tokens[i]);
          CHECK(session->contributions[i].payment == *Far::parse(policy.pay[i]));
        }
        check_books(ledger, 512);
        check_receipts(ledger, /*nodes_died=*/false);
      }
    }
  }

  TEST_CASE("a prompt that the nodes have in cache costs once, and is receipted as cached") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2), {"--paid"});
    const std::string ledger = sqlite("cached");
    Coordinator coordinator(
        model, peer_flags(nodes) +
                   std::vector<std::string>{"--ledger", ledger, "--prompt-price", "0.00001"});
    json body = completion(3, 20);
    std::string prompt;
    for (int i = 0; i < 12; ++i) prompt += "there was an owl by the river, and ";
    body["prompt"] = prompt;
    std::vector<Listener> clients(2, Listener(body));
    for (Listener& client : clients) CHECK(client.hear(coordinator.url()));
    CHECK(coordinator.stop() == 0);
    std::vector<SessionRecord> sessions;
    for (const Listener& client : clients) {
      REQUIRE(client.usage().is_object());
      const std::uint32_t given = client.usage().at("prompt_tokens");
      const std::uint32_t cached = client.usage().at("prompt_tokens_details").at("cached_tokens");
      CHECK((cached > given / 2) == (&client == &clients.back()));
      const auto session = ContributionLedger(store_at(ledger)).session_of_request(client.id());
      REQUIRE(session);
      CHECK(session->prompt_tokens == given - cached);
      const Far cost = *kPrice.times(20)->plus(*Far::parse("0.00001")->times(given - cached));
      CHECK(session->total_cost == cost);
      CHECK(client.usage().at("cost_far") == cost.to_string());
      sessions.push_back(*session);
    }
    check_receipts(ledger, /*nodes_died=*/false);
    for (const SessionRecord& session : sessions) {
      const auto receipts = ledger::Receipts(store_at(ledger)).of_session(session.session_id);
      REQUIRE(receipts);
      for (const ledger::StoredReceipt& stored : *receipts) {
        CHECK(stored.receipt.receipt.counts.prefill == session.prompt_tokens);
        CHECK((stored.receipt.receipt.counts.cached > 0) == (&session == &sessions.back()));
      }
    }
  }

  TEST_CASE("a coordinator without its mesh is alive, not ready, and serves once there are nodes") {
    const std::string model = any_model();
    const std::uint32_t layers = layers_of(model);
    std::vector<std::string> addresses;
    std::vector<std::string> peers;
    for (int i = 0; i < 2; ++i) {
      addresses.push_back("127.0.0.1:" + std::to_string(free_port()));
      peers = peers + std::vector<std::string>{"--peer", addresses.back()};
    }
    Coordinator plain(model, peers + std::vector<std::string>{"--ledger", sqlite("bare")});
    Coordinator helped(
        model, peers + std::vector<std::string>{"--ledger", sqlite("helped"), "--fallback-local"});
    http::Client client{{.read_timeout = std::chrono::minutes(2), .proxy_from_environment = false}};
    const auto ask = [&client](const std::string& url, const json& body = {}) {
      const bool posts = !body.is_null();
      auto reply = client.send({.method = posts ? "POST" : "GET",
                                .url = url + (posts ? "/v1/completions" : ""),
                                .body = posts ? body.dump() : ""});
      REQUIRE(reply);
      return *std::move(reply);
    };
    json body = completion(5, 20);
    body["stream"] = false;
    body.erase("stream_options");
    const auto uncovered = [&] {
      return json::parse(ask(plain.url() + "/ready").body).at("uncovered_layers").size();
    };
    CHECK(ask(plain.url() + "/health").status == 200);
    CHECK(ask(plain.url() + "/ready").status == 503);
    CHECK(uncovered() == layers);
    const http::ClientReply refused = ask(plain.url(), body);
    CHECK(refused.status == 503);
    CHECK(json::parse(refused.body).at("error").at("code") == "no_route");
    CHECK(ask(helped.url() + "/ready").status == 503);
    const http::ClientReply stood_in = ask(helped.url(), body);
    REQUIRE(stood_in.status == 200);
    CHECK(stood_in.headers.get("X-FarMesh-Fallback") == "true");

    std::vector<cli::NodeProcess> nodes;
    const std::vector<Span> halves = cli::even_split(layers, 2);
    for (std::size_t i = 0; i < halves.size(); ++i) {
      auto node = cli::NodeProcess::start({.program = kProgram,
                                           .model = model,
                                           .layers = halves[i],
                                           .listen = addresses[i],
                                           .more = {"--threads", "1"}});
      REQUIRE(node);
      REQUIRE(node->await_listening(std::chrono::minutes(1)));
      nodes.push_back(*std::move(node));
      if (i == 0) CHECK(soon([&] { return uncovered() == layers - halves[0].size(); }));
    }
    for (const Coordinator* coordinator : {&plain, &helped}) {
      CHECK(soon([&] { return ask(coordinator->url() + "/ready").status == 200; }));
      const http::ClientReply served = ask(coordinator->url(), body);
      REQUIRE(served.status == 200);
      CHECK_FALSE(served.headers.get("X-FarMesh-Fallback"));
      CHECK(json::parse(served.body).at("choices") == json::parse(stood_in.body).at("choices"));
    }
    CHECK(plain.stop() == 0);
    check_books(sqlite("bare"), 20);
    CHECK(helped.stop() == 0);
    check_books(sqlite("helped"), 40);
  }

  TEST_CASE("nodes die under streams: all are complete and right, and the books add up") {
    weather({}, sqlite("storm"), "storm");
  }

  TEST_CASE("the same with PostgreSQL") {
    if (auto* const postgres = PostgresServer::get()) {
      weather({.clients = 4, .tokens = 60, .deaths = 1}, postgres->new_database(), "storm-pg");
    } else {
      MESSAGE("skipped: there is no PostgreSQL here");
    }
  }
}

TEST_SUITE("chaos" * doctest::skip()) {
  TEST_CASE("100 streams for a minute, a node dies every five seconds, on both ledgers") {
    const Storm storm{.clients = 100,
                      .tokens = 100,
                      .deaths = 1,
                      .between = std::chrono::seconds(5),
                      .lasts = std::chrono::seconds(60)};
    weather(storm, sqlite("chaos"), "chaos");
    if (auto* const postgres = PostgresServer::get()) {
      weather(storm, postgres->new_database(), "chaos-pg");
    }
  }
}

}  // namespace farmesh::test
