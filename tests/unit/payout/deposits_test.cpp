// Deposits on chain as credit in the ledger.
#include "payout/deposits.hpp"

#include <doctest/doctest.h>

#include "unit/payout/payouts.hpp"

namespace farmesh::test {
namespace {

using payout::DepositOptions;
using payout::DepositStep;
using payout::DepositWatcher;

template <class World>
Far balance(World& world) {
  const auto account = ledger::Credits(world.store).account(wallet_name(900));
  REQUIRE(account);
  return account->balance;
}

DepositStep read_all(DepositWatcher& watcher) {
  DepositStep sum;
  for (int i = 0; i < 100 && !sum.up_to_date; ++i) {
    const auto step = watcher.step();
    REQUIRE_MESSAGE(step, step.error().to_string());
    sum.deposits += step->deposits;
    sum.withdrawals += step->withdrawals;
    sum.requests += step->requests;
    sum.dropped += step->dropped;
    sum.up_to_date = step->up_to_date;
  }
  return sum;
}

const DepositOptions kThree{3, 0, 4, 1'000};

}  // namespace

TEST_SUITE("payout/deposits") {
  TEST_CASE_TEMPLATE("a deposit becomes credit when it is deep enough, once", Backend, OnSqlite,
                     OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    DepositWatcher watcher(world.store, world.chain, kThree);
    world.chain.deposit(kUser, far("2.5"));
    read_all(watcher);
    CHECK(balance(world) == Far());
    world.chain.mine(2);
    CHECK(read_all(watcher).deposits >= 1);
    CHECK(balance(world) == far("2.5"));
    world.chain.mine(20);
    CHECK(read_all(watcher).deposits == 0);
    // Another process, from the beginning of the same ledger.
    DepositWatcher again(world.store, world.chain, kThree);
    CHECK(read_all(again).deposits == 0);
    CHECK(balance(world) == far("2.5"));
    CHECK(world.differences().empty());
  }

  TEST_CASE("a shallow reorganisation is not even noticed") {
    PayoutWorld<OnSqlite> world;
    DepositWatcher watcher(world.store, world.chain, kThree);
    world.chain.mine(10);
    read_all(watcher);
    world.chain.deposit(kUser, far("1"));
    read_all(watcher);
    world.chain.reorganise(2);
    world.chain.mine(10);
    CHECK(read_all(watcher).dropped == 0);
    CHECK(balance(world) == Far());
    CHECK(world.differences().empty());
  }

  TEST_CASE_TEMPLATE(
      "what a deep reorganisation takes is taken back, and what returns counts again", Backend,
      OnSqlite, OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    DepositWatcher watcher(world.store, world.chain, kThree);
    world.chain.mine(5);
    world.chain.deposit(kUser, far("1"));
    const auto block = world.chain.blocks.back();
    const Far before = world.chain.state.balances[kUser];
    world.chain.mine(5);
    read_all(watcher);
    CHECK(balance(world) == far("1"));
    world.chain.reorganise(8);
    CHECK(world.chain.state.balances[kUser] == Far());
    world.chain.mine(3);
    CHECK(read_all(watcher).dropped == 1);
    CHECK(balance(world) == Far());
    check_audit(world.store);
    // The same transaction again, in a later block.
    world.chain.mine();
    world.chain.blocks.back().movements = block.movements;
    world.chain.blocks.back().movements[0].block_number = world.chain.blocks.size() - 1;
    world.chain.state.balances[kUser] = before;
    world.chain.mine(5);
    CHECK(read_all(watcher).deposits == 1);
    CHECK(balance(world) == far("1"));
    check_audit(world.store);
  }

  TEST_CASE("parts of a unit are no credit; withdrawals lower it, never below what is reserved") {
    PayoutWorld<OnSqlite> world;
    DepositWatcher watcher(world.store, world.chain, kThree);
    world.chain.deposit_wei(kUser, 15'000'000'000);  // one and a half units
    world.chain.deposit(kUser, far("1"));
    world.chain.mine(3);
    read_all(watcher);
    CHECK(balance(world) == far("1.00000001"));
    REQUIRE(ledger::Credits(world.store).reserve(wallet_name(900), "live", far("0.4")));
    world.chain.withdraw(kUser, far("0.5"));
    world.chain.mine(3);
    CHECK(read_all(watcher).withdrawals == 1);
    CHECK(balance(world) == far("0.50000001"));
    world.chain.withdraw(kUser, far("0.5"));
    world.chain.mine(3);
    read_all(watcher);
    CHECK(balance(world) == far("0.4"));
    CHECK(world.differences().empty());
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("what a user asks back is no credit from then on, and can still be charged",
                     Backend, OnSqlite, OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    DepositWatcher watcher(world.store, world.chain, kThree);
    ledger::Credits credits(world.store);
    const auto available = [&] { return credits.account(wallet_name(900))->available(); };
    world.chain.deposit(kUser, far("1"));
    world.chain.mine(3);
    read_all(watcher);
    REQUIRE(credits.reserve(wallet_name(900), "live", far("0.3")));
    world.chain.request_withdrawal(kUser, far("0.5"));
    read_all(watcher);
    CHECK(available() == far("0.7"));  // not deep enough
    world.chain.mine(3);
    CHECK(read_all(watcher).requests == 1);
    CHECK(available() == far("0.2"));
    CHECK(balance(world) == far("1"));
    const auto refused = credits.reserve(wallet_name(900), "more", far("0.21"));
    CHECK(refused.error().code == Errc::insufficient_credit);
    // A request for more than there is takes all that is not reserved; the last one counts.
    world.chain.request_withdrawal(kUser, far("5"));
    world.chain.mine(3);
    read_all(watcher);
    CHECK(available() == Far());
    // What was reserved is charged in full, wish or no wish.
    ContributionLedger book(world.store);
    const auto opened = book.begin_session(start_of("live"));
    REQUIRE(opened);
    const auto ended =
        book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(3'000)});
    REQUIRE(ended);
    CHECK(ended->uncollected == Far());
    CHECK(balance(world) == far("0.7"));
    // Withdrawing takes from the wish; taking it back frees the rest.
    world.chain.withdraw(kUser, far("0.2"));
    world.chain.mine(3);
    read_all(watcher);
    CHECK(balance(world) == far("0.5"));
    CHECK(available() == Far());
    CHECK(world.differences().empty());
    world.chain.request_withdrawal(kUser, far("0.1"));
    world.chain.mine(3);
    read_all(watcher);
    CHECK(available() == far("0.4"));
    // A reorganisation that takes the wish away gives the credit back.
    world.chain.reorganise(5);
    world.chain.mine(3);
    read_all(watcher);
    CHECK(available() == Far());
    CHECK(world.differences().empty());
    check_audit(world.store);
  }

  TEST_CASE("a credit that no deposit made, and a balance that differs, are told") {
    PayoutWorld<OnSqlite> world;
    DepositWatcher watcher(world.store, world.chain, kThree);
    world.chain.deposit(kUser, far("1"));
    world.chain.mine(3);
    read_all(watcher);
    CHECK(world.differences().empty());
    SUBCASE("the chain holds less") { world.chain.state.balances[kUser] = far("0.9"); }
    SUBCASE("the ledger noted another amount") {
      REQUIRE(world.store->transact([](ledger::Database& db) {
        return db.script("UPDATE far_chain_movements SET amount_wei = '1'");
      }));
    }
    CHECK_FALSE(world.differences().empty());
  }
}

}  // namespace farmesh::test
