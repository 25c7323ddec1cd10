// What payers remember: leases, transactions, charges, debts; and batches that are opened again.
#include "ledger/payout_book.hpp"

#include <doctest/doctest.h>

#include "ledger/chain_book.hpp"
#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/payment_batches.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using ledger::Lease;
using ledger::PaymentBatches;
using ledger::PayoutBook;
using ledger::UserCharge;

const std::string kHash = "0x" + std::string(64, 'a');
const std::string kOther = "0x" + std::string(64, 'b');

/// A batch of one session's work.
template <class World>
ledger::PaymentBatch claim_one(World& world) {
  for (int i = 1; i <= 3; ++i) {
    ledger::NodeRegistration node;
    node.node_id = node_name(i);
    node.wallet = wallet_name(i);
    REQUIRE(ledger::NodeRegistry(world.store).register_node(node));
  }
  ContributionLedger book(world.store);
  const auto opened = book.begin_session(start_of("r"));
  REQUIRE(opened);
  REQUIRE(book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(512)}));
  ledger::ClaimOptions options;
  options.minimum = Far::from_units(1);
  options.payable_before = world.clock.now();
  const auto batch = PaymentBatches(world.store).claim(options);
  REQUIRE(batch);
  REQUIRE(*batch);
  return **batch;
}

ledger::StoredTransaction transaction_of(const std::string& batch, const std::string& hash,
                                         std::uint64_t nonce) {
  return {hash, batch, 97, wallet_name(50), nonce, {1, 2, 3}, {}};
}

}  // namespace

TEST_SUITE("ledger/payout_book") {
  TEST_CASE_TEMPLATE("a lease has one holder until it is over, and who lost it writes nothing",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    const auto batch = claim_one(world);
    PayoutBook book(world.store);
    const auto first = book.acquire("chain", "one", 1min);
    REQUIRE(first);
    REQUIRE(*first);
    CHECK_FALSE(*book.acquire("chain", "two", 1min));
    CHECK((*book.acquire("chain", "one", 1min))->epoch == (*first)->epoch);
    world.clock.advance(1min);
    const auto second = book.acquire("chain", "two", 1min);
    REQUIRE(second);
    REQUIRE(*second);
    const auto late = book.record(**first, transaction_of(batch.id, kHash, 0), {}, Far());
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::ledger_conflict);
    CHECK(book.transactions(batch.id)->empty());
    REQUIRE(book.record(**second, transaction_of(batch.id, kHash, 0), {}, Far()));
    REQUIRE(book.yield(**first));  // not his any more
    CHECK_FALSE(*book.acquire("chain", "one", 1min));
    REQUIRE(book.yield(**second));
    CHECK(*book.acquire("chain", "one", 1min));
    // A clock that was far ahead when it was taken does not keep it for ever.
    world.clock.advance(1000h);
    REQUIRE(book.acquire("chain", "one", 1min));
    world.clock.advance(-1000h);
    CHECK(*book.acquire("chain", "two", 1min));
  }

  TEST_CASE_TEMPLATE("what is recorded is there, marks its batch, and replaces what was planned",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    const auto batch = claim_one(world);
    PayoutBook book(world.store);
    const Lease lease = **book.acquire("chain", "one", 1min);
    const std::vector<UserCharge> charges{{wallet_name(900), far("0.05")},
                                          {wallet_name(901), far("0.0012")}};
    REQUIRE(book.record(lease, transaction_of(batch.id, kHash, 4), charges, far("0.0001")));
    REQUIRE(book.record(lease, transaction_of(batch.id, kHash, 4), charges, far("0.0001")));
    CHECK(*book.charges(batch.id) == charges);
    REQUIRE(book.record(lease, transaction_of(batch.id, kOther, 5), {charges[0]}, Far()));
    CHECK(*book.charges(batch.id) == std::vector{charges[0]});
    const auto all = book.transactions(batch.id);
    REQUIRE(all);
    CHECK(all->size() == 2);
    CHECK(all->at(0).raw == std::vector<std::uint8_t>{1, 2, 3});
    CHECK(PaymentBatches(world.store).batch(batch.id)->tx_hash == kOther);
    CHECK(*book.highest_nonce(97, wallet_name(50), {}) == 5);
    CHECK_FALSE(*book.highest_nonce(97, wallet_name(50), batch.id));
    CHECK_FALSE(*book.highest_nonce(56, wallet_name(50), {}));
    CHECK(*PaymentBatches(world.store).claimed_since(world.clock.now()) == far("0.0512"));
    REQUIRE(PaymentBatches(world.store).confirm(batch.id, {kOther, 9, 1, ""}));
    CHECK_FALSE(book.record(lease, transaction_of(batch.id, kHash, 6), {}, Far()));
  }

  TEST_CASE_TEMPLATE("debts are what was charged here and not yet there", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ledger::Credits credits(world.store);
    const std::string user = wallet_name(900);
    REQUIRE(credits.deposit(user, far("1"), "tx"));
    REQUIRE(credits.reserve(user, "r", far("0.0512")));
    const auto batch = claim_one(world);
    PayoutBook book(world.store);
    CHECK(*book.debts() == std::vector<UserCharge>{{user, far("0.0512")}});
    REQUIRE(book.set_charges(batch.id, {{user, far("0.05")}}, Far()));
    CHECK(*book.debts() == std::vector<UserCharge>{{user, far("0.0012")}});
    CHECK(*book.debts(batch.id) == std::vector<UserCharge>{{user, far("0.0512")}});
    REQUIRE(book.set_charges(batch.id, {{user, far("0.0512")}}, Far()));
    CHECK(book.debts()->empty());
  }

  TEST_CASE_TEMPLATE("a batch is opened again as a whole, and nothing else unpays work", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    const auto batch = claim_one(world);
    PaymentBatches batches(world.store);
    CHECK(batches.reopen(batch.id).error().code == Errc::ledger_conflict);
    CHECK(batches.reopen("nothing").error().code == Errc::not_found);
    REQUIRE(batches.submit(batch.id, kHash));
    REQUIRE(batches.confirm(batch.id, {kHash, 9, 1, ""}));
    CHECK(batches.confirmed_since(LedgerTime())->at(0).block_number == 9);
    const auto unpay = [&] {
      return world.store->transact([](ledger::Database& db) {
        return db.script(
            "UPDATE far_session_contributions SET paid_at = NULL, payment_tx_hash = NULL");
      });
    };
    CHECK_FALSE(unpay());
    REQUIRE(batches.reopen(batch.id));
    REQUIRE(batches.reopen(batch.id));
    CHECK(batches.confirmed_since(LedgerTime())->empty());
    const auto session = ContributionLedger(world.store).session_of_request("r");
    REQUIRE(session);
    for (const Contribution& one : session->contributions) {
      CHECK_FALSE(one.paid_at);
      CHECK(one.payment_tx_hash.empty());
      CHECK(one.batch_id == batch.id);
    }
    check_audit(world.store);
    REQUIRE(batches.submit(batch.id, kOther));
    REQUIRE(batches.confirm(batch.id, {kOther, 11, 1, ""}));
    CHECK_FALSE(unpay());
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("switch, schedule, cursor and movements are kept", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    PayoutBook book(world.store);
    CHECK_FALSE(*book.paused());
    REQUIRE(book.pause("why"));
    CHECK(**book.paused() == "why");
    REQUIRE(book.resume());
    CHECK_FALSE(*book.paused());
    CHECK_FALSE(*book.last_run("weekly"));
    REQUIRE(book.set_last_run("weekly", world.clock.now()));
    CHECK(**book.last_run("weekly") == world.clock.now());
    ledger::ChainBook chain(world.store);
    CHECK_FALSE(*chain.cursor("97 x"));
    REQUIRE(chain.set_cursor("97 x", {7, kHash}));
    REQUIRE(chain.set_cursor("97 x", {8, kOther}));
    CHECK((*chain.cursor("97 x"))->block_number == 8);
    const ledger::ChainMovement movement{
        .reference = "m",
        .chain = "97 x",
        .account = wallet_name(1),
        .amount_wei = "15000000000",
        .tx_hash = kHash,
        .block_number = 7,
    };
    REQUIRE(chain.put(movement));
    REQUIRE(chain.put(movement));
    CHECK(chain.movements("97 x", 7)->size() == 1);
    CHECK(chain.movements("97 x", 8)->empty());
    REQUIRE(chain.drop("m"));
    CHECK((*chain.movement("m"))->dropped);
    CHECK(chain.movements("97 x", 0)->empty());
    REQUIRE(chain.put(movement));
    CHECK(chain.movements("97 x", 0)->size() == 1);
    // In the chain's order, whatever the order in which they were seen.
    ledger::ChainMovement wish = movement;
    wish.reference = "w";
    wish.kind = ledger::MovementKind::request;
    wish.block_number = 6;
    REQUIRE(chain.put(wish));
    const auto all = chain.movements_of(wallet_name(1));
    REQUIRE(all);
    REQUIRE(all->size() == 2);
    CHECK(all->front().kind == ledger::MovementKind::request);
    CHECK(all->back().kind == ledger::MovementKind::deposit);
  }

  TEST_CASE_TEMPLATE("an errand is kept until it is done, and only for who holds the lease",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    PayoutBook book(world.store);
    const auto lease = book.acquire("56 sender", "one", 60s);
    REQUIRE(lease);
    REQUIRE(*lease);
    CHECK_FALSE(*book.errand(**lease));
    REQUIRE(book.set_errand(**lease, {"open", kHash, 5, {1, 2}, {}}));
    REQUIRE(book.set_errand(**lease, {"open", kOther, 5, {3}, {}}));  // a higher fee
    CHECK((*book.errand(**lease))->tx_hash == kOther);
    REQUIRE(book.end_errand(**lease, kHash));
    CHECK((*book.errand(**lease))->raw == std::vector<std::uint8_t>{3});
    world.clock.advance(61s);
    REQUIRE(*book.acquire("56 sender", "two", 60s));
    CHECK_FALSE(book.set_errand(**lease, {"fix", kHash, 6, {4}, {}}));
    REQUIRE(book.end_errand(**lease, kOther));
  }
}

}  // namespace farmesh::test
