// A process that keeps the ledger is killed with SIGKILL, again and again: what it was told is
// done stays done, and every sum holds.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/payment_batches.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using ledger::Credits;
using ledger::PaymentBatches;
using ledger::Store;

/// What the child tells the parent when the ledger has told the child that it is done.
struct Done {
  char session_id[36];
  std::uint32_t tokens;
};

LedgerOptions durable(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  return options;
}

/// Serves, pays and never ends by itself.
[[noreturn]] void keep_books(const std::string& url, std::uint32_t seed, int out) {
  std::mt19937 random(seed);
  const auto store = Store::open(durable(url));
  if (!store) ::_exit(1);
  ContributionLedger book(*store);
  Credits credits(*store);
  PaymentBatches payments(*store);
  for (int i = 1; i <= 3; ++i) {
    ledger::NodeRegistration node;
    node.node_id = node_name(i);
    node.wallet = wallet_name(i);
    if (!ledger::NodeRegistry(*store).register_node(node)) ::_exit(11);
  }
  for (std::uint32_t i = 0;; ++i) {
    const std::string request = std::to_string(seed) + "/" + std::to_string(i);
    const std::uint32_t tokens = 1 + static_cast<std::uint32_t>(random() % 500);
    if (!credits.deposit(wallet_name(900), far("0.05"), "tx " + request)) ::_exit(2);
    if (!credits.reserve(wallet_name(900), request, far("0.05"))) ::_exit(3);
    const auto opened = book.begin_session(start_of(request));
    if (!opened) ::_exit(4);
    const SessionProgress progress{opened->session_id, log_of(tokens / 2 + 1)};
    if (!book.checkpoint({&progress, 1})) ::_exit(5);
    if (!book.finalize_session(
            {opened->session_id, SessionStatus::completed, "", log_of(tokens)})) {
      ::_exit(6);
    }
    Done done{};
    opened->session_id.copy(done.session_id, sizeof done.session_id);
    done.tokens = tokens;
    if (::write(out, &done, sizeof done) != sizeof done) ::_exit(7);
    if (i % 3 != 2) continue;
    ledger::ClaimOptions options;
    options.minimum = Far::from_units(1);
    options.payable_before = (*store)->now();
    const auto claimed = payments.claim(options);
    if (!claimed) ::_exit(8);
    if (!*claimed) continue;
    if (!payments.submit((*claimed)->id, "0xabc")) ::_exit(9);
    if (!payments.confirm((*claimed)->id, {"0xabc", i, 1, ""})) ::_exit(10);
  }
}

/// Lets a child work until it has done a few sessions, kills it, and checks the books.
void crash_once(const std::string& url, std::mt19937& random, std::uint32_t seed) {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe[0]);
    keep_books(url, seed, pipe[1]);
  }
  ::close(pipe[1]);
  std::vector<Done> done;
  Done next{};
  const std::size_t enough = 1 + random() % 4;
  while (done.size() < enough && ::read(pipe[0], &next, sizeof next) == sizeof next) {
    done.push_back(next);
  }
  ::usleep(static_cast<unsigned>(random() % 4'000));  // anywhere in what it does next
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE_MESSAGE(WIFSIGNALED(status), "the child ended with ", WEXITSTATUS(status));
  while (::read(pipe[0], &next, sizeof next) == sizeof next) done.push_back(next);
  ::close(pipe[0]);

  const auto store = Store::open(durable(url));
  REQUIRE_MESSAGE(store, store.error().to_string());
  ContributionLedger book(*store);
  REQUIRE(book.close_abandoned({"one"}));
  for (const Done& each : done) {
    const auto session = book.session(std::string(each.session_id, sizeof each.session_id));
    REQUIRE_MESSAGE(session, session.error().to_string());
    CHECK(session->status == SessionStatus::completed);
    CHECK(session->tokens_generated == each.tokens);
  }
  check_audit(*store);
}

}  // namespace

TEST_SUITE("ledger/crash") {
  TEST_CASE_TEMPLATE("killed at random points, the ledger loses nothing that it had promised",
                     Backend, OnSqlite, OnPostgres) {
    Backend backend;
    if (backend.url.empty()) {
      MESSAGE("skipped: PostgreSQL 15 is not installed");
      return;
    }
    const char* wanted = std::getenv("FARMESH_LEDGER_CRASHES");
    const int rounds = wanted == nullptr ? 8 : std::atoi(wanted);
    const std::uint32_t seed = std::random_device()();
    MESSAGE("seed ", seed, ", ", rounds, " kills");
    std::mt19937 random(seed);
    for (int i = 0; i < rounds; ++i)
      crash_once(backend.url, random, static_cast<std::uint32_t>(random()));
  }
}

}  // namespace farmesh::test
