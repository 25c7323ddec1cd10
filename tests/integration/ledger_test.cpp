// The ledger by the program's verbs: made, audited, tampered with, told to a provider.
#include <regex>

#include <doctest/doctest.h>

#include "integration/program.hpp"
#include "ledger/access.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/store.hpp"

namespace farmesh::test {
namespace {

std::string fresh_ledger(const char* name) {
  const std::string file = (scratch() / name).string();
  std::filesystem::remove(file);
  return file;
}

std::shared_ptr<ledger::Store> open(const std::string& file) {
  LedgerOptions options;
  options.url = file;
  auto store = ledger::Store::open(options);
  REQUIRE(store);
  return *store;
}

const std::string kNode(64, '7');
const std::string kWallet = "0x52908400098527886E0F7030069857D2E4169EE7";

void serve_one(const std::shared_ptr<ledger::Store>& store) {
  ledger::NodeRegistration node;
  node.node_id = kNode;
  node.wallet = kWallet;
  REQUIRE(ledger::NodeRegistry(store).register_node(node));
  ContributionLedger book(store);
  SessionStart start;
  start.request_id = "r";
  start.user_wallet = "key:1";
  start.model_id = "m";
  start.price_per_token = *Far::parse("0.0001");
  const auto opened = book.begin_session(start);
  REQUIRE(opened);
  WorkLog log;
  log.add_output(std::vector<WorkHop>{{kNode, {0, 4}}}, 170);
  REQUIRE(book.finalize_session({opened->session_id, SessionStatus::completed, "", log}));
}

}  // namespace

TEST_SUITE("integration/ledger") {
  TEST_CASE("migrate makes a ledger, an audit of it finds nothing, a tampered one is told") {
    const std::string file = fresh_ledger("audit.sqlite");
    CHECK(run({"ledger", "migrate", "--url", file}).status == 0);
    serve_one(open(file));
    const Ended good = run({"ledger", "audit", "--url", file});
    CHECK(good.status == 0);
    CHECK(good.output.empty());
    CHECK(good.errors.find("every sum holds") != std::string::npos);
    REQUIRE(open(file)->transact([](ledger::Database& db) {
      return db.script("UPDATE far_nodes SET total_earned_far_units = 1");
    }));
    const Ended bad = run({"ledger", "audit", "--url", file, "--json"});
    CHECK(bad.status == 1);
    CHECK(nlohmann::json::parse(bad.output).at("table") == "far_nodes");
  }

  TEST_CASE("a statement tells each session of a wallet, and with --json why") {
    const std::string file = fresh_ledger("statement.sqlite");
    serve_one(open(file));
    const Ended text = run({"ledger", "statement", "--url", file, "--wallet", kWallet});
    CHECK(text.status == 0);
    CHECK(text.output.find("0.0170 $FAR") != std::string::npos);
    const Ended line = run({"ledger", "statement", "--url", file, "--wallet", kWallet, "--json"});
    const nlohmann::json session = nlohmann::json::parse(line.output);
    CHECK(session.at("work_log").at("output").at(0).at("tokens") == 170);
    CHECK(session.at("contributions").at(0).at("payment_far") == "0.017");
  }

  TEST_CASE("key create prints a key that opens the ledger, once") {
    const std::string file = fresh_ledger("keys.sqlite");
    const Ended made = run({"key", "create", "--url", file, "--scope", "admin", "--name", "first"});
    REQUIRE(made.status == 0);
    REQUIRE(std::regex_match(made.output, std::regex("far_[0-9a-f]{16}_[0-9a-f]{64}\n")));
    const auto key =
        ledger::ApiKeys(open(file)).authenticate(made.output.substr(0, made.output.size() - 1));
    REQUIRE(key);
    CHECK(key->scopes.admin);
    CHECK_FALSE(key->scopes.infer);
  }

  TEST_CASE("without a ledger, or with one that is none, the program says so") {
    CHECK(run({"ledger", "audit", "--url", "mysql://nowhere"}).status == 2);
    CHECK(run({"ledger", "audit", "--url", "/nowhere/at/all"}).status == 1);
  }
}

}  // namespace farmesh::test
