// Unpaid work through the payer to a chain in memory, on good and on bad days.
#include "payout/payer.hpp"

#include <doctest/doctest.h>

#include "evm/merkle.hpp"
#include "unit/payout/payouts.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using ledger::BatchStatus;
using ledger::PaymentBatches;

template <class World>
std::vector<ledger::ConfirmedBatch> confirmed(World& world) {
  const auto all = PaymentBatches(world.store).confirmed_since(LedgerTime());
  REQUIRE(all);
  return *all;
}

template <class World>
Contribution contribution_of(World& world, const std::string& request, int node) {
  const auto session = ContributionLedger(world.store).session_of_request(request);
  REQUIRE(session);
  for (const Contribution& one : session->contributions) {
    if (one.node_id == node_name(node)) return one;
  }
  FAIL("no such contribution");
  return {};
}

}  // namespace

TEST_SUITE("payout/payer") {
  TEST_CASE_TEMPLATE("the published example: 0.0170 + 0.0171 + 0.0171 = 0.0512", Backend, OnSqlite,
                     OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    world.deposit("1");
    world.serve("one", 512);
    Payer payer = world.payer();
    CHECK(world.settle(payer).did == Did::idle);

    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.paid(2) == far("0.0171"));
    CHECK(world.paid(3) == far("0.0171"));
    CHECK(world.chain.state.balances[kUser] == far("0.9488"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    const Contribution first = contribution_of(world, "one", 1);
    CHECK(first.paid_at);
    CHECK(first.payment_tx_hash == confirmed(world).at(0).tx_hash);
    world.check_all();
    // And once more: nothing.
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.chain.sends > 0);
    CHECK(confirmed(world).size() == 1);
  }

  TEST_CASE_TEMPLATE("dust waits until it is enough, or old", Backend, OnSqlite, OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    world.deposit("10");
    world.serve("one", 512);
    PayerOptions options = eager();
    options.minimum = far("0.0171");
    options.hold = 1h;
    options.dust_after = 24h;
    Payer payer = world.payer(options);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(confirmed(world).empty());  // held for an hour
    world.clock.advance(1h);
    world.settle(payer);
    CHECK(world.paid(1) == Far());
    CHECK(world.paid(2) == far("0.0171"));
    world.clock.advance(24h);
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    world.check_all();
  }

  TEST_CASE("a stuck transaction is sent again with a higher fee and the same nonce") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    world.chain.mined_above = 2'000'000'000;  // above the first offer
    Payer payer = world.payer();
    CHECK(world.step(payer).did == Did::claimed);
    const Step first = world.step(payer);
    CHECK(first.did == Did::sent);
    world.chain.mine();
    CHECK(world.step(payer).did == Did::waiting);
    world.clock.advance(payer.options().stuck_after);
    world.chain.fee = 3'000'000'000;
    const Step second = world.step(payer);
    CHECK(second.did == Did::sent);
    CHECK(second.what != first.what);
    CHECK(world.chain.pool.size() == 1);
    world.settle(payer);
    CHECK(world.paid(2) == far("0.0171"));
    CHECK(world.chain.state.nonces[world.signer.address()] == 1);
    world.check_all();
  }

  TEST_CASE("fees above the limit are waited out") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    world.chain.fee = 100'000'000'000;
    PayerOptions options = eager();
    options.max_fee_per_gas = 50'000'000'000;
    Payer payer = world.payer(options);
    CHECK(world.step(payer).did == Did::claimed);
    CHECK(world.step(payer).did == Did::waiting);
    CHECK(world.chain.sends == 0);
    world.chain.fee = 1'000'000'000;
    world.settle(payer);
    CHECK(world.paid(2) == far("0.0171"));
  }

  TEST_CASE_TEMPLATE("a confirmed batch that the chain forgets is found and sent again", Backend,
                     OnSqlite, OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    world.deposit("1");
    world.serve("one", 512);
    Payer payer = world.payer();
    world.settle(payer);
    const std::string hash = confirmed(world).at(0).tx_hash;
    world.clock.advance(1h);
    world.chain.reorganise(3);
    CHECK(world.paid(1) == Far());

    CHECK(world.step(payer).did == Did::reopened);
    CHECK_FALSE(contribution_of(world, "one", 1).paid_at);
    check_audit(world.store);
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(confirmed(world).at(0).tx_hash == hash);  // the same bytes
    CHECK(contribution_of(world, "one", 1).payment_tx_hash == hash);
    world.check_all();
  }

  TEST_CASE_TEMPLATE("after a reorganisation a dearer transaction may take its place", Backend,
                     OnSqlite, OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    world.serve("one", 512, false);
    Payer payer = world.payer();
    world.settle(payer);
    const std::string hash = confirmed(world).at(0).tx_hash;
    world.chain.mined_above = 5'000'000'000;
    world.chain.fee = 6'000'000'000;
    world.chain.reorganise(3);
    CHECK(world.step(payer).did == Did::reopened);
    CHECK(world.step(payer).did == Did::waiting);
    world.clock.advance(payer.options().stuck_after);
    world.settle(payer);
    CHECK(confirmed(world).at(0).tx_hash != hash);
    CHECK(contribution_of(world, "one", 1).payment_tx_hash == confirmed(world).at(0).tx_hash);
    CHECK(world.paid(1) == far("0.0170"));
    world.check_all();
  }

  TEST_CASE_TEMPLATE("of two payers one sends; when it stalls the other goes on", Backend, OnSqlite,
                     OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    world.serve("one", 512, false);
    Payer first = world.payer();
    CHECK(world.step(first).did == Did::claimed);
    const auto store = world.open();
    REQUIRE(store);
    Payer second(*store, world.chain, world.signer, eager());
    CHECK(world.step(second).did == Did::standby);
    world.clock.advance(first.options().lease);
    CHECK(world.step(second).did == Did::sent);
    CHECK(world.step(first).did == Did::standby);
    world.settle(second);
    REQUIRE(second.yield());
    CHECK(world.step(first).did == Did::idle);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(confirmed(world).size() == 1);
  }

  TEST_CASE("a payer that lost its lease in the middle writes nothing and sends nothing") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    Payer first = world.payer();
    CHECK(world.step(first).did == Did::claimed);
    const auto store = world.open();
    REQUIRE(store);
    Payer second(*store, world.chain, world.signer, eager());
    bool taken = false;
    world.chain.on_call = [&](std::string_view call, bool) {
      if (call != "estimate_gas" || taken) return;
      taken = true;
      world.clock.advance(first.options().lease);
      CHECK(world.step(second).did == Did::sent);
    };
    const auto late = first.step();
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::ledger_conflict);
    CHECK(world.chain.pool.size() == 1);
    world.settle(second);
    CHECK(world.paid(1) == far("0.0170"));
  }

  TEST_CASE("a recipient whom the token refuses does not stop the others") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    world.chain.state.rejecting.insert(wallet_of(2));
    Payer payer = world.payer();
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.paid(2) == Far());
    CHECK(world.chain.state.claimable[wallet_of(2)] == far("0.0171"));
    world.check_all();
  }

  TEST_CASE("a wallet that is no address is held, and the others are paid") {
    PayoutWorld<OnSqlite> world;
    world.register_node(2, "bob");
    world.register_node(3, evm::to_string(world.chain.escrow()));
    world.serve("one", 512, false);
    Payer payer = world.payer();
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    const auto held = PaymentBatches(world.store).held();
    REQUIRE(held);
    CHECK(held->size() == 2);
    world.check_all();
  }

  TEST_CASE("a batch that the chain refuses steps aside, and is tried again later") {
    PayoutWorld<OnSqlite> world;
    world.chain.state.balances[kBacking] = far("0.05");  // too little for the first
    world.serve("one", 512, false);
    Payer payer = world.payer();
    CHECK(world.step(payer).did == Did::claimed);
    CHECK(world.step(payer).did == Did::failed);
    world.clock.advance(1s);
    world.serve("two", 300, false);
    CHECK(world.until(payer, Did::confirmed).what.starts_with("0.03"));
    CHECK(world.paid(1) == far("0.01"));
    world.chain.deposit(kBacking, far("1"));
    world.clock.advance(payer.options().retry_after);
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0270"));
    world.check_all();
  }

  TEST_CASE("a nonce that somebody else used is given up for the next") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    Payer payer = world.payer();
    CHECK(world.step(payer).did == Did::claimed);
    CHECK(world.step(payer).did == Did::sent);
    world.chain.pool.clear();
    ++world.chain.state.nonces[world.signer.address()];
    CHECK(world.step(payer).did == Did::sent);
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.chain.state.nonces[world.signer.address()] == 2);
    world.check_all();
  }

  TEST_CASE("a nonce below that nobody uses any more is filled, and everybody is paid once") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    const Address sender = world.signer.address();
    world.chain.state.nonces[sender] = 2;
    Payer payer = world.payer();
    CHECK(world.step(payer).did == Did::claimed);
    CHECK(world.step(payer).did == Did::sent);
    world.chain.state.nonces[sender] = 1;  // a reorganisation took what was not a batch's
    world.chain.mine(5);
    CHECK(world.step(payer).did == Did::waiting);
    CHECK(world.paid(1) == Far());
    world.clock.advance(payer.options().stuck_after);
    CHECK(world.step(payer).did == Did::sent);
    world.settle(payer);
    world.chain.mine(5);  // the other one is mined too, and reverts
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.chain.state.nonces[sender] == 3);
    world.check_all();
  }

  TEST_CASE("what pools forget is sent again, byte for byte") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    Payer payer = world.payer();
    world.until(payer, Did::sent);
    for (int i = 0; i < 3; ++i) {
      world.chain.pool.clear();
      CHECK(world.step(payer).did == Did::waiting);
      CHECK(world.chain.pool.size() == 1);
    }
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.chain.state.nonces[world.signer.address()] == 1);
  }

  TEST_CASE(
      "an endpoint that takes a transaction and times out, then shows no receipt, is waited for") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    world.chain.lose_answers = true;
    Payer payer = world.payer();
    CHECK(world.step(payer).did == Did::claimed);
    CHECK(world.step(payer).did == Did::sent);
    CHECK(world.chain.pool.size() == 1);
    world.chain.lose_answers = false;
    world.chain.hide_receipts = true;
    world.chain.mine(10);
    world.clock.advance(payer.options().stuck_after);
    for (int i = 0; i < 3; ++i) CHECK(world.step(payer).did == Did::waiting);
    CHECK(confirmed(world).empty());
    world.chain.hide_receipts = false;
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.chain.state.nonces[world.signer.address()] == 1);
    world.check_all();
    // A settled batch stays confirmed while its receipt cannot be had.
    world.chain.hide_receipts = true;
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(confirmed(world).size() == 1);
  }

  TEST_CASE("an endpoint that says everything has succeeded pays nobody on paper") {
    PayoutWorld<OnSqlite> world;
    world.chain.mine(5);
    world.serve("one", 512, false);
    Payer payer = world.payer();
    world.until(payer, Did::sent);
    world.chain.invent_receipts = true;
    for (int i = 0; i < 3; ++i) {
      const Step step = world.step(payer);
      CHECK(step.did == Did::waiting);
      CHECK(step.what.find("disagree") != std::string::npos);
    }
    CHECK(confirmed(world).empty());
    world.chain.invent_receipts = false;
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    // And what was paid is not paid again for its sake.
    world.chain.invent_receipts = true;
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.chain.state.nonces[world.signer.address()] == 1);
  }

  TEST_CASE("the pause switch stops new batches, for every payer of the ledger") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    ledger::PayoutBook book(world.store);
    REQUIRE(book.pause("an audit"));
    Payer payer = world.payer();
    const Step step = world.settle(payer);
    CHECK(step.did == Did::paused);
    CHECK(step.what == "an audit");
    CHECK(world.chain.sends == 0);
    REQUIRE(book.resume());
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
  }

  TEST_CASE("no more than the daily limit leaves in a day; the rest follows") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    PayerOptions options = eager();
    options.daily_limit = far("0.0345");
    options.schedule = payout::Schedule();
    Payer payer = world.payer(options);
    payer.run_now();
    const Step step = world.settle(payer);
    CHECK(step.did == Did::waiting);
    CHECK(step.what.find("daily limit") != std::string::npos);
    CHECK(world.paid(2) == far("0.0171"));
    CHECK(world.paid(3) == far("0.0171"));
    CHECK(world.paid(1) == Far());
    world.clock.advance(24h);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.paid(1) == far("0.0170"));
    world.check_all();
  }

  TEST_CASE("a week's work is paid on Monday, once, whatever the clock does") {
    PayoutWorld<OnSqlite> world;  // its clock begins on a Monday
    world.clock.advance(1h);
    PayerOptions options = eager();
    options.schedule = payout::Schedule();
    Payer payer = world.payer(options);
    world.serve("one", 512, false);
    CHECK(world.settle(payer).did == Did::idle);
    world.clock.advance(6 * 24h);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(confirmed(world).empty());
    world.clock.advance(24h);
    world.settle(payer);
    CHECK(confirmed(world).size() == 1);
    world.serve("two", 512, false);
    world.clock.advance(-48h);
    CHECK(world.settle(payer).did == Did::idle);
    world.clock.advance(48h);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(confirmed(world).size() == 1);
    Payer another = world.payer(options);  // a restart is no occasion either
    REQUIRE(payer.yield());
    CHECK(world.settle(another).did == Did::idle);
    CHECK(confirmed(world).size() == 1);
  }

  TEST_CASE("a tree is funded where paying each would cost too much, and every proof holds") {
    PayoutWorld<OnSqlite> world;
    world.serve("one", 512, false);
    PayerOptions options = eager();
    SUBCASE("in gas") { options.max_gas = 100'000; }
    SUBCASE("in coin") { options.max_cost = 50'000'000'000'000; }
    Payer payer = world.payer(options);
    const auto preview = payer.preview();
    REQUIRE(preview);
    CHECK(preview->method == payout::Method::merkle);
    CHECK(preview->total == far("0.0512"));
    CHECK(world.chain.sends == 0);
    world.settle(payer);
    CHECK(world.paid(1) == Far());
    const auto batch = confirmed(world).at(0);
    const auto on_chain = world.chain.state.batches[payout::batch_key(batch.id)];
    payout::Settlement settlement{batch.id, payout::Method::merkle, {}, {}, {}, {}};
    for (int i = 1; i <= 3; ++i) {
      settlement.payments.push_back({wallet_of(i), far(i == 1 ? "0.0170" : "0.0171")});
    }
    const auto tree = payout::payment_tree(settlement, world.chain.id(), world.chain.escrow());
    REQUIRE(tree);
    CHECK(tree->root() == on_chain.root);
    world.check_all();
  }

  TEST_CASE(
      "users pay what they were served, up to what they have; the platform's fee comes last") {
    PayoutWorld<OnSqlite> world;
    world.chain.fee_bps = 2'000;
    world.deposit("0.04");
    ContributionLedger book(world.store);
    SessionStart start = start_of("with fee");
    start.platform_fee_bps = 1'000;
    REQUIRE(ledger::Credits(world.store).reserve(wallet_name(900), "with fee", far("0.03")));
    const auto opened = book.begin_session(start);
    REQUIRE(opened);
    REQUIRE(book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(300)}));
    Payer payer = world.payer();
    world.settle(payer);
    CHECK(world.chain.state.fees == far("0.003"));
    CHECK(world.chain.state.balances[kUser] == far("0.01"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    world.check_all();
    // A user who has left: the backing account pays the providers, and nobody the fee.
    world.serve("gone", 100);
    world.chain.state.balances[kUser] = Far();
    world.settle(payer);
    CHECK(world.chain.state.balances[kBacking] == far("999.99"));
    world.check_all();
  }

  TEST_CASE_TEMPLATE("the operator's own share goes to him, once its user has paid for the nodes",
                     Backend, OnSqlite, OnPostgres) {
    PayoutWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    world.deposit("1");
    ContributionLedger book(world.store);
    const auto serve_shared = [&](const std::string& request) {
      SessionStart start = start_of(request);
      REQUIRE(ledger::Credits(world.store).reserve(wallet_name(900), request, far("0.0512")));
      const auto opened = book.begin_session(start);
      REQUIRE(opened);
      WorkLog log;
      log.add_output(std::vector<WorkHop>{{"", {0, 16}}, {node_name(1), {16, 32}}}, 512);
      const auto ended =
          book.finalize_session({opened->session_id, SessionStatus::completed, "", log});
      REQUIRE(ended);
      CHECK(ended->operator_pay == far("0.0256"));
    };
    serve_shared("one");
    PayerOptions options = eager();
    const Address cold = address_of(0xcc);
    options.operator_wallet = cold;
    SUBCASE("paid directly") {}
    SUBCASE("as a leaf of the tree") { options.max_gas = 100'000; }
    const bool tree = options.max_gas == 100'000;
    Payer payer = world.payer(options);
    world.settle(payer);
    CHECK(world.chain.state.balances[kUser] == far("0.9488"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    if (!tree) {
      CHECK(world.paid(1) == far("0.0256"));
      CHECK(world.chain.state.paid[cold] == far("0.0256"));
    }
    CHECK(*ledger::PayoutBook(world.store).operator_paid() == far("0.0256"));
    world.check_all();
    // Where users' money on chain does not suffice, nodes come first and the operator waits.
    world.chain.state.balances[kUser] = far("0.03");
    serve_shared("two");
    world.settle(payer);
    CHECK(world.chain.state.balances[kUser] == Far());
    CHECK(*ledger::PayoutBook(world.store).operator_paid() == far("0.03"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    world.check_all();
    // The rest follows with a later batch, less what nobody but him would pay its nodes.
    world.chain.state.balances[kUser] = far("1");
    world.clock.advance(1s);
    world.serve("three", 3, false);
    world.settle(payer);
    CHECK(*ledger::PayoutBook(world.store).operator_paid() == far("0.0509"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    CHECK(ledger::PayoutBook(world.store).operator_due("")->is_zero());
    world.check_all();
  }

  TEST_CASE("what was tampered with is found: items, hashes, charges, transactions") {
    PayoutWorld<OnSqlite> world;
    world.deposit("1");
    world.serve("one", 512);
    Payer payer = world.payer();
    world.settle(payer);
    world.check_all();
    const std::string statement = [] {
      std::string chosen;
      SUBCASE("an item") {
        chosen = "UPDATE far_payment_items SET amount_far_units = amount_far_units + 1";
      }
      SUBCASE("another wallet's item") {
        chosen = "UPDATE far_payment_items SET wallet_address = '" + wallet_name(77) +
                 "' WHERE wallet_address = '" + wallet_name(1) + "'";
      }
      SUBCASE("a charge") {
        chosen = "UPDATE far_payment_charges SET amount_far_units = amount_far_units - 1";
      }
      SUBCASE("a transaction's hash") {
        chosen = "UPDATE far_payment_batches SET tx_hash = '0x" + std::string(64, '1') + "'";
      }
      SUBCASE("what the operator got") {
        chosen = "UPDATE far_payment_transactions SET operator_wallet = '" + wallet_name(9) +
                 "', operator_far_units = 1";
      }
      SUBCASE("a reservation that was never charged") {
        chosen = "UPDATE far_payment_charges SET request_key = '0x" + std::string(64, '2') + "'";
      }
      SUBCASE("a transaction's bytes") {
        chosen = "UPDATE far_payment_transactions SET raw = x'00'";
      }
      return chosen;
    }();
    REQUIRE(world.store->transact([&](ledger::Database& db) { return db.script(statement); }));
    CHECK_FALSE(world.differences().empty());
  }
}

}  // namespace farmesh::test
