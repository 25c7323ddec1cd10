// Coordinators as processes: streams that outlive the coordinator and the nodes that make them,
// and a ledger in which every token is charged once.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include "base/secret_file.hpp"
#include "gateway/resumption.hpp"
#include "http/client.hpp"
#include "http/event_parser.hpp"
#include "integration/program.hpp"
#include "ledger/credits.hpp"
#include "ledger/receipts.hpp"
#include "ledger/session_rows.hpp"
#include "ledger/store.hpp"
#include "model/synth.hpp"
#include "support/postgres_server.hpp"
#include "support/redis_server.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

const Far kPrice = *Far::parse("0.0001");

class Coordinator {
 public:
  Coordinator(const std::string& model, const std::vector<std::string>& more)
      : process_(start(model, more)) {
    const auto line = process_.read_line(std::chrono::minutes(2));
    INFO("it said: ", process_.errors());
    REQUIRE(line.has_value());
    const std::string before = "listening on ";
    REQUIRE(line->starts_with(before));
    url_ = line->substr(before.size(), line->find(' ', before.size()) - before.size());
  }

  const std::string& url() const { return url_; }
  void kill() { process_.signal(SIGKILL); }
  int stop() {
    process_.signal(SIGTERM);
    return process_.wait();
  }

 private:
  static cli::ChildProcess start(const std::string& model, const std::vector<std::string>& more) {
    auto process = cli::ChildProcess::start(
        std::vector<std::string>{kProgram, "coordinator", "--model", "m=" + model, "--port", "0",
                                 "--threads", "1", "--public-budget", "1000", "--public-rate",
                                 "0"} +
            more,
        {"XDG_DATA_HOME=" + scratch().string(), "LOG_LEVEL=warning"});
    REQUIRE(process);
    return *std::move(process);
  }

  cli::ChildProcess process_;
  std::string url_;
};

json completion(std::uint64_t seed, std::uint32_t tokens) {
  return {{"model", "m"},       {"prompt", "Once upon a time"},
          {"seed", seed},       {"max_tokens", tokens},
          {"stream", true},     {"ignore_eos", true},
          {"temperature", 0.8}, {"stream_options", {{"include_usage", true}}}};
}

// A client that hears one stream, perhaps in several parts.
class Listener {
 public:
  explicit Listener(json body) : body_(std::move(body)) {}

  /// False when the stream broke before its end.
  bool hear(const std::string& url, const std::function<void()>& on_event = {}) {
    http::ClientRequest request;
    request.method = "POST";
    request.url = url + "/v1/completions";
    request.body = body_.dump();
    if (!last_id_.empty()) request.headers.add("Last-Event-ID", last_id_);
    http::EventParser parser([&](const http::ReceivedEvent& event) {
      take(event);
      if (on_event) on_event();
      return true;
    });
    http::Client client{{.read_timeout = std::chrono::minutes(2), .proxy_from_environment = false}};
    const auto on_head = [this](const http::ClientReply& head) {
      status_ = head.status;
      return true;
    };
    const auto on_body = [&](std::string_view piece) {
      if (status_ != 200) refusal_ += piece;
      return bool(parser.feed(piece));
    };
    (void)client.stream(request, on_head, on_body);
    return done_;
  }

  const std::string& text() const { return text_; }
  const std::string& id() const { return id_; }
  const std::string& refusal() const { return refusal_; }
  const std::string& last_id() const { return last_id_; }
  const json& usage() const { return usage_; }

 private:
  void take(const http::ReceivedEvent& event) {
    if (event.data == "[DONE]") {
      done_ = true;
      return;
    }
    const json chunk = json::parse(event.data, nullptr, false);
    if (!chunk.is_object() || chunk.contains("error")) {
      refusal_ += event.data;
      return;
    }
    last_id_ = event.id;
    id_ = chunk.at("id");
    for (const json& choice : chunk.at("choices")) text_ += choice.at("text").get<std::string>();
    if (chunk.contains("usage") && chunk["usage"].is_object()) usage_ = chunk["usage"];
  }

  const json body_;
  std::string text_, id_, last_id_, refusal_;
  json usage_;
  int status_ = 0;
  bool done_ = false;
};

std::string whole_text(const std::string& url, json body) {
  body["stream"] = false;
  body.erase("stream_options");
  http::Client client{{.read_timeout = std::chrono::minutes(5), .proxy_from_environment = false}};
  const auto reply =
      client.send({.method = "POST", .url = url + "/v1/completions", .body = body.dump()});
  REQUIRE(reply);
  INFO(reply->body);
  REQUIRE(reply->status == 200);
  return json::parse(reply->body).at("choices").at(0).at("text");
}

std::shared_ptr<ledger::Store> store_at(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  auto store = ledger::Store::open(std::move(options));
  REQUIRE(store);
  return *store;
}

// Tokens charged for a request in all its sessions, which must have ended and add up.
std::uint64_t charged(ContributionLedger& book, const std::string& request_id) {
  std::uint64_t tokens = 0;
  for (unsigned link = 0;; ++link) {
    const auto session = book.session_of_request(gateway::session_request_id(request_id, link));
    if (!session) return tokens;
    CHECK(session->status != SessionStatus::active);
    CHECK(session->total_cost == *kPrice.times(session->tokens_generated));
    std::uint64_t shares = session->operator_tokens;
    for (const Contribution& share : session->contributions) shares += share.tokens;
    CHECK(shares == session->tokens_generated);
    tokens += session->tokens_generated;
  }
}

void check_books(const std::string& ledger, std::uint64_t tokens_in_all) {
  const auto store = store_at(ledger);
  const auto report = ContributionLedger(store).audit();
  REQUIRE(report);
  for (const AuditFinding& finding : report->findings) {
    FAIL_CHECK(finding.table << " " << finding.row << " " << finding.what);
  }
  const auto credit = ledger::Credits(store).account("public");
  REQUIRE(credit);
  CHECK(credit->reserved.is_zero());
  CHECK(credit->balance == *Far::parse("1000")->minus(*kPrice.times(std::int64_t(tokens_in_all))));
}

// Every node's newest receipt against the step log of its session, token by token. Where nodes
// died, some receipts are old or missing; none may claim more than the log, and none is disputed.
void check_receipts(const std::string& ledger, bool nodes_died) {
  struct Found {
    std::uint64_t exact = 0, old = 0, missing = 0;
  };
  using Place = std::pair<std::string, Span>;
  const auto store = store_at(ledger);
  CHECK(ContributionLedger(store).open_disputes()->empty());
  const auto found = store->transact([](ledger::Database& db) -> Result<Found> {
    Found found;
    const auto ids = db.query<std::string>("SELECT id FROM far_mesh_sessions");
    if (!ids) return ids.error();
    for (const auto& [id] : *ids) {
      const Result<WorkLog> log = ledger::load_work(db, id);
      const auto receipts = ledger::load_receipts(db, id);
      if (!log || !receipts) return Error{Errc::ledger_damaged, id};
      std::map<Place, std::uint64_t> logged;
      for (const WorkSegment& segment : log->output) {
        for (const WorkHop& hop : segment.route)
          logged[{hop.node_id, hop.layers}] += segment.tokens;
      }
      std::map<Place, ledger::StoredReceipt> newest;
      for (const ledger::StoredReceipt& stored : *receipts) {
        CHECK(stored.driver_key.has_value());
        newest[{to_string(stored.receipt.receipt.node_id), stored.receipt.receipt.span}] = stored;
      }
      for (const auto& [place, tokens] : logged) {
        const auto last = newest.find(place);
        if (last == newest.end()) {
          ++found.missing;
          continue;
        }
        const std::uint64_t claimed = last->second.receipt.receipt.counts.decode;
        CHECK(claimed <= tokens);
        ++(claimed == tokens ? found.exact : found.old);
      }
    }
    return found;
  });
  REQUIRE(found);
  std::cerr << "receipts: " << found->exact << " exact, " << found->old << " old, "
            << found->missing << " missing\n";
  CHECK(found->exact > 0);
  if (!nodes_died) CHECK(found->old + found->missing == 0);
}

template <class Holds>
bool soon(Holds holds) {
  const auto deadline = steady_clock::now() + std::chrono::minutes(3);
  while (steady_clock::now() < deadline) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// --- nodes that die
// -------------------------------------------------------------------------------

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

std::string sqlite(const std::string& name) { return (scratch() / (name + ".sqlite")).string(); }

}  // namespace

TEST_SUITE("integration/coordinator") {
  TEST_CASE("a coordinator is killed under load: its clients go on at another, nothing is lost") {
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
    std::vector<std::string> expected;
    for (std::size_t i = 0; i < kClients; ++i) {
      expected.push_back(whole_text(second.url(), completion(i, kTokens)));
    }

    std::vector<Listener> clients;
    for (std::size_t i = 0; i < kClients; ++i) clients.emplace_back(completion(i, kTokens));
    std::vector<std::atomic<int>> events(kClients);
    std::atomic<int> broken{0};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kClients; ++i) {
      threads.emplace_back([&, i] {
        if (clients[i].hear(first.url(), [&events, i] { ++events[i]; })) return;
        ++broken;
        (void)clients[i].hear(second.url());
      });
    }
    // Some sessions were saved to the ledger by then, some tokens were not.
    CHECK(soon([&events] {
      return std::all_of(events.begin(), events.end(), [](const auto& heard) { return heard > 8; });
    }));
    first.kill();
    for (std::thread& thread : threads) thread.join();
    CHECK(broken == kClients);

    ContributionLedger book(store_at(ledger));
    for (std::size_t i = 0; i < kClients; ++i) {
      INFO("client ", i, " ", clients[i].last_id(), " ", clients[i].refusal());
      CHECK(clients[i].text() == expected[i]);
      REQUIRE(clients[i].usage().is_object());
      CHECK(clients[i].usage().at("completion_tokens") == kTokens);
      CHECK(clients[i].usage().at("cost_far") == kPrice.times(kTokens)->to_string());
      CHECK(charged(book, clients[i].id()) == kTokens);
    }
    CHECK(second.stop() == 0);
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
    for (const Policy& policy : policies) {
      const std::string ledger = sqlite(std::string("published-") + policy.name);
      Coordinator coordinator(
          folder,
          peer_flags(nodes) + std::vector<std::string>{"--ledger", ledger, "--split", policy.name});
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
