// A node's entry in a registry that is really served, on loopback.
#include "cli/registration.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "cli/key_bind.hpp"
#include "cli/wallet_proof.hpp"
#include "gateway/registry.hpp"
#include "identity/node_key.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::cli {
namespace {

using namespace std::chrono_literals;

// Looks every millisecond, for at most twenty seconds.
template <class Holds>
bool soon(Holds holds) {
  for (int i = 0; i < 20'000; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

struct Service {
  std::shared_ptr<ledger::Store> store;
  std::unique_ptr<gateway::Registry> registry;
  std::unique_ptr<http::Server> server;
  std::atomic<int> answers = 0;

  explicit Service(const std::filesystem::path& file, std::uint16_t port = 0) {
    LedgerOptions options;
    options.url = file.string();
    options.durable = false;
    auto opened = ledger::Store::open(options);
    REQUIRE(opened);
    store = *opened;
    gateway::RegistryOptions registering;
    registering.requests_per_minute = 0;
    registry = std::make_unique<gateway::Registry>(registering, store);
    http::Router router;
    registry->add_routes(router);
    http::ServerOptions serving;
    serving.port = port;
    serving.on_finished = [this](const http::Finished&) { ++answers; };
    auto started = http::Server::start(std::move(router), serving);
    REQUIRE_MESSAGE(started, started.error().to_string());
    server = *std::move(started);
  }
  RegistrationOptions options() const {
    return {"http://127.0.0.1:" + std::to_string(server->port()) + "/", 5ms, 1ms};
  }
  std::vector<ledger::ListedNode> active() const {
    const auto nodes = ledger::NodeRegistry(store).active_nodes("demo");
    REQUIRE(nodes);
    return *nodes;
  }
};

struct Node {
  farmesh::test::TempDir folder;
  identity::NodeKey key = identity::NodeKey::generate();
  evm::PrivateKey wallet = evm::PrivateKey::generate();

  NodeFacts facts() const {
    NodeFacts facts;
    facts.node_id = to_string(key.id());
    facts.public_key = to_hex(key.public_key());
    facts.model_id = "demo";
    facts.layers = {1, 3};
    facts.num_layers = 4;
    facts.numerics_class = "f32/exact-2/fma";
    facts.public_addr = "127.0.0.1:31330";
    facts.location = "DE-Berlin";
    facts.sign = [this](std::string_view domain, std::string_view message) {
      return Result<std::string>(to_hex(key.sign(domain, as_view(message))));
    };
    return facts;
  }
  /// As `farmesh key bind` does it, for the node of `bound`.
  void bind(const NodeId& bound) const {
    const auto words =
        start_binding({evm::to_string(wallet.address()), "farmesh", 56, bound, folder.path()});
    REQUIRE(words);
    const auto signature = evm::sign(wallet, evm::personal_digest(*words)).to_bytes();
    REQUIRE(finish_binding(folder.path(), bound, "0x" + to_hex(signature)));
  }
  Result<std::optional<evm::SignedStatement>> proof(const WalletFlags& flags) const {
    IdentityOptions identity;
    identity.data_dir = folder.path().string();
    return flags.proof(identity, to_string(key.id()));
  }
};

NodeFigures figures() { return {3, 100, 250}; }

}  // namespace

TEST_SUITE("cli/registration") {
  TEST_CASE("a node is listed with its wallet and figures, and offline once it has ended") {
    const farmesh::test::TempDir folder;
    const Service service(folder.path() / "ledger.sqlite");
    const Node node;
    node.bind(node.key.id());
    NodeFacts facts = node.facts();
    const auto proof = node.proof({});
    REQUIRE(proof);
    REQUIRE(*proof);
    facts.wallet = **proof;
    {
      const Registration registration(service.options(), facts, figures);
      REQUIRE(
          soon([&] { return !service.active().empty() && service.active()[0].avg_latency_ms; }));
      const ledger::ListedNode listed = service.active()[0];
      CHECK(listed.node_id == facts.node_id);
      CHECK(listed.wallet == evm::to_lower_case(node.wallet.address()));
      CHECK(listed.model.layers == Span{1, 3});
      CHECK(listed.model.total_layers == 4);
      CHECK(listed.model.quantization == "fp32");
      CHECK(listed.location == "DE-Berlin");
      CHECK(listed.public_addr == "127.0.0.1:31330");
      CHECK(*listed.avg_latency_ms == doctest::Approx(0.5));
    }
    CHECK(service.active().empty());
  }

  TEST_CASE("what the wallet has earned is told at the start, and when it has changed") {
    const farmesh::test::TempDir folder;
    const Service service(folder.path() / "ledger.sqlite");
    const Node node;
    node.bind(node.key.id());
    NodeFacts facts = node.facts();
    facts.wallet = **node.proof({});
    std::mutex mutex;
    std::vector<std::string> told;
    RegistrationOptions options = service.options();
    options.earnings_every = 1ms;
    options.on_earnings = [&](const Earnings& earnings) {
      const std::lock_guard lock(mutex);
      told.push_back(text_of(earnings));
    };
    const auto lines = [&] {
      const std::lock_guard lock(mutex);
      return told;
    };
    const Registration registration(options, facts, figures);
    REQUIRE(soon([&] { return !lines().empty(); }));
    ContributionLedger book(service.store);
    SessionStart start;
    start.request_id = "r";
    start.user_wallet = evm::to_string(node.wallet.address());
    start.model_id = "demo";
    start.body_digest = "digest";
    start.price_per_token = *Far::parse("0.0001");
    start.coordinator = "one";
    const auto session = book.begin_session(start);
    REQUIRE(session);
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{facts.node_id, {0, 4}}}, 171);
    REQUIRE(book.finalize_session({session->session_id, SessionStatus::completed, "", log}));
    REQUIRE(soon([&] { return lines().size() == 2; }));
    const int answers = service.answers;
    CHECK(soon([&] { return service.answers >= answers + 6; }));  // asked again, nothing new
    CHECK(lines() == std::vector<std::string>{
                         "earned 0 $FAR for 0 tokens, 0 $FAR of it not yet paid",
                         "earned 0.0171 $FAR for 171 tokens, 0.0171 $FAR of it not yet paid"});
  }

  TEST_CASE("what is no answer about earnings is none") {
    CHECK(read_earnings(R"({"total_earned_far":92233720368.54775807,"total_tokens_served":1,
                            "pending_payout_far":0,"earnings_history":[{"amount_far":3}]})")
              ->total.to_string() == "92233720368.54775807");
    for (const char* body :
         {"", "{}", "[1]", "no",
          R"({"total_earned_far":"1","total_tokens_served":1,"pending_payout_far":0})",
          R"({"total_earned_far":1e3,"total_tokens_served":1,"pending_payout_far":0})",
          R"({"x":{"total_earned_far":1,"total_tokens_served":1,"pending_payout_far":0}})",
          R"({"total_earned_far":1,"total_tokens_served":-1,"pending_payout_far":0})"}) {
      CAPTURE(body);
      CHECK_FALSE(read_earnings(body));
    }
    CHECK_FALSE(read_earnings(std::string(10'000, '[')));
  }

  TEST_CASE("a registry that comes later, restarts or forgets is found again") {
    const farmesh::test::TempDir folder;
    auto service = std::make_unique<Service>(folder.path() / "ledger.sqlite");
    const std::uint16_t port = service->server->port();
    const RegistrationOptions options = service->options();
    service.reset();
    const Node node;
    {
      const Registration early(options, node.facts(), figures);  // ends although nobody answers
    }
    const Registration registration(options, node.facts(), figures);
    service = std::make_unique<Service>(folder.path() / "ledger.sqlite", port);
    CHECK(soon([&] { return service->active().size() == 1; }));
    service.reset();
    service = std::make_unique<Service>(folder.path() / "another.sqlite", port);
    CHECK(soon([&] { return service->active().size() == 1; }));
  }

  TEST_CASE("a registry that refuses leaves the node alone") {
    const farmesh::test::TempDir folder;
    const Service service(folder.path() / "ledger.sqlite");
    const Node node;
    NodeFacts facts = node.facts();
    facts.node_id = std::string(64, '7');  // not this key's
    const Registration registration(service.options(), facts, figures);
    CHECK(soon([&] { return service.answers >= 3; }));
    CHECK(service.active().empty());
  }
}

TEST_SUITE("cli/wallet_proof") {
  TEST_CASE("the statement beside the key is taken if it is for this node, the named one must be") {
    const Node node;
    CHECK_FALSE(*node.proof({}));
    CHECK_FALSE(*node.proof({evm::to_string(node.wallet.address()), ""}));  // told in the log
    NodeId another{};
    another.fill(7);
    node.bind(another);
    CHECK_FALSE(*node.proof({}));
    const std::string file = statement_file(node.folder.path()).string();
    CHECK(node.proof({"", file}).error().code == Errc::wallet_statement_invalid);

    node.bind(node.key.id());
    REQUIRE(node.proof({}));
    CHECK(*node.proof({}));
    CHECK(*node.proof({"", file}));
    CHECK(*node.proof({evm::to_string(node.wallet.address()), file}));
    const std::string other = evm::to_string(evm::PrivateKey::generate().address());
    CHECK(node.proof({other, file}).error().code == Errc::wallet_statement_invalid);
    CHECK_FALSE(*node.proof({other, ""}));
    CHECK(node.proof({"0x12", ""}).error().code == Errc::wallet_invalid);
    CHECK(node.proof({"", file + ".none"}).error().code == Errc::config_invalid);
    node.folder.write("wallet-statement.txt", "pay me");
    CHECK(node.proof({"", file}).error().code == Errc::wallet_statement_invalid);
    CHECK_FALSE(*node.proof({}));
  }
}

}  // namespace farmesh::cli
