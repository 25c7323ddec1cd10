// The payer and the watcher of deposits on a real chain with the real contracts.
#include "payout/anvil_world.hpp"

namespace farmesh::test {

TEST_SUITE("payout/anvil") {
  TEST_CASE("a deposit, a session, a batch: the published example to the last unit") {
    AnvilWorld world;
    world.deposit(world.user, "1");
    world.read_deposits();
    CHECK(world.credit() == far("1"));
    world.serve("one", 512);
    CHECK(world.credit() == far("0.9488"));
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[0]).to_decimal() == "17000000000000000");
    CHECK(world.tokens_of(world.wallets[1]).to_decimal() == "17100000000000000");
    CHECK(world.tokens_of(world.wallets[2]).to_decimal() == "17100000000000000");
    const auto account = world.chain->account(world.user.address());
    REQUIRE(account);
    CHECK(account->balance.to_decimal() == "948800000000000000");
    world.check_all(/*balances=*/true);
    CHECK(world.settle(payer).did == Did::idle);
  }

  TEST_CASE("a reorganisation that drops a confirmed batch is found, and the batch paid again") {
    AnvilWorld world;
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    world.serve("one", 512);
    const auto snapshot = world.control("evm_snapshot", nlohmann::json::array());
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    world.settle(payer);
    CHECK_FALSE(world.tokens_of(world.wallets[0]).is_zero());
    REQUIRE(world.control("evm_revert", nlohmann::json::array({snapshot})) == true);
    CHECK(world.tokens_of(world.wallets[0]).is_zero());
    world.mine(9);
    const auto step = payer.step();
    REQUIRE(step);
    CHECK(step->did == Did::reopened);
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
    world.check_all(/*balances=*/false);
  }

  TEST_CASE("a stuck transaction is replaced at its nonce, and everybody is paid once") {
    AnvilWorld world;
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    world.serve("one", 512);
    world.control("evm_setAutomine", nlohmann::json::array({false}));
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    std::vector<Did> did;
    for (int i = 0; i < 4; ++i) {
      const auto step = payer.step();
      REQUIRE_MESSAGE(step, step.error().to_string());
      did.push_back(step->did);
      if (step->did == Did::waiting) world.clock.advance(payer.options().stuck_after);
    }
    CHECK(did == std::vector{Did::claimed, Did::sent, Did::waiting, Did::sent});
    world.control("evm_setAutomine", nlohmann::json::array({true}));
    world.mine();
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[1]) == evm::to_wei(far("0.0171")));
    world.check_all(/*balances=*/false);
  }

  TEST_CASE("a process that is killed with SIGKILL at any touch of the chain pays nobody twice") {
    int kills = 0;
    for (int at = 1;; ++at) {
      CAPTURE(at);
      AnvilWorld world;
      world.deposit(world.settler, "1");
      REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
      world.serve("one", 512);
      const bool whole = world.pay_and_die(at);
      REQUIRE(world.pay_and_die(0));
      CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
      CHECK(world.tokens_of(world.wallets[1]) == evm::to_wei(far("0.0171")));
      CHECK(world.tokens_of(world.wallets[2]) == evm::to_wei(far("0.0171")));
      world.check_all(/*balances=*/false);
      if (whole) break;
      ++kills;
    }
    MESSAGE("killed at each of ", kills, " moments");
    CHECK(kills > 10);
  }

  TEST_CASE("a tree is funded, and each provider claims what is his") {
    AnvilWorld world;
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    world.serve("one", 512);
    payout::PayerOptions options = world.options();
    options.max_gas = 100'000;
    payout::Payer payer(world.store, *world.chain, world.settler, options);
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[0]).is_zero());
    world.check_all(/*balances=*/false);

    const auto confirmed = ledger::PaymentBatches(world.store).confirmed_since(LedgerTime());
    REQUIRE(confirmed);
    const auto batch = ledger::PaymentBatches(world.store).batch(confirmed->at(0).id);
    REQUIRE(batch);
    const auto settlement = payout::payments_of(*batch);
    REQUIRE(settlement);
    const auto tree = payout::payment_tree(*settlement, kChain, world.escrow);
    REQUIRE(tree);
    const auto claims = payout::encode_claims(*settlement, *tree, {0, 1, 2});
    REQUIRE(claims);
    world.send(world.user, world.escrow, *claims);  // anybody may carry them
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
    CHECK(world.tokens_of(world.wallets[2]) == evm::to_wei(far("0.0171")));
  }

  TEST_CASE("a paused escrow refuses the batch; it is paid once it goes on") {
    AnvilWorld world;
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    world.serve("one", 512);
    world.transact(world.settler, world.escrow, "pause()", {});
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    REQUIRE(payer.step());
    const auto refused = payer.step();
    REQUIRE_MESSAGE(refused, refused.error().to_string());
    CHECK(refused->did == Did::failed);
    world.transact(world.settler, world.escrow, "unpause()", {});
    world.clock.advance(payer.options().retry_after);
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
  }

  TEST_CASE("a paused escrow opens no reservation; it is opened once it goes on") {
    AnvilWorld world;
    world.become_new_user();
    world.deposit(world.user, "1");
    world.read_deposits();
    ledger::EscrowReservations reservations(world.store);
    const auto terms = world.signed_for("in a pause", "0.1");
    REQUIRE(reservations.sign(terms));
    world.transact(world.settler, world.escrow, "pause()", {});
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(reservations.find(terms.request_id)->status == ledger::ReservationStatus::signed_for);
    world.transact(world.settler, world.escrow, "unpause()", {});
    world.clock.advance(payer.options().retry_after);
    world.settle(payer);
    CHECK(reservations.find(terms.request_id)->status == ledger::ReservationStatus::open);
    CHECK(world.balance_on_chain() == far("0.9"));
    CHECK(*world.chain->takes_from(world.settler.address()));
    CHECK_FALSE(*world.chain->takes_from(world.user.address()));  // without the role
  }
}

}  // namespace farmesh::test
