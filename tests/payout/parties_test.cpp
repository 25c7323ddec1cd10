// Users, recipients, operator and strangers on a real chain: reservations, withdrawals, refusals,
// and the program itself with a signer outside its process.
#include "payout/anvil_world.hpp"

namespace farmesh::test {
namespace {

// Named first: nobody listens there, and the next one is asked.
constexpr const char* kDeadEndpoint = " --rpc http://127.0.0.1:9";

}  // namespace

TEST_SUITE("payout/parties") {
  TEST_CASE("a request by reservation: signed by its user, opened, fixed, charged, the rest back") {
    AnvilWorld world;
    world.become_new_user();
    world.deposit(world.user, "1");
    world.deposit(world.settler, "1");
    world.read_deposits();
    ledger::EscrowReservations reservations(world.store);
    const auto used = world.signed_for("by reservation", "0.1");
    const auto refunded = world.signed_for("never served", "0.2");
    const auto lapsing = world.signed_for("never sent", "0.3");
    for (const auto& one : {used, refunded, lapsing}) REQUIRE(reservations.sign(one));
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    world.settle(payer);
    for (const auto& one : {used, refunded, lapsing}) {
      CHECK(reservations.find(one.request_id)->status == ledger::ReservationStatus::open);
    }
    CHECK(world.balance_on_chain() == far("0.4"));

    world.serve("by reservation", 512);
    REQUIRE(ledger::Credits(world.store).release("never served"));
    world.settle(payer);
    CHECK(reservations.find("by reservation")->status == ledger::ReservationStatus::settled);
    CHECK(reservations.find("never served")->status == ledger::ReservationStatus::returned);
    CHECK(world.balance_on_chain() == far("0.6488"));
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
    CHECK(world.tokens_of(world.wallets[1]) == evm::to_wei(far("0.0171")));
    CHECK(world.tokens_of(world.wallets[2]) == evm::to_wei(far("0.0171")));

    // From its deadline on, here and on chain, anybody may return what was never used.
    world.control("evm_increaseTime", nlohmann::json::array({7'200}));
    world.mine();
    *world.clock.time = lapsing.deadline + 1s;
    world.settle(payer);
    CHECK(reservations.find("never sent")->status == ledger::ReservationStatus::returned);
    CHECK(world.balance_on_chain() == far("0.9488"));
    CHECK(world.credit() == far("0.9488"));
    world.check_all(/*balances=*/false);
  }

  TEST_CASE("a wallet that is a contract signs for a request, as the chain says, and pays for it") {
    AnvilWorld world;
    const auto contract = address_from("FARMESH_CONTRACT_WALLET");  // of anvil's second account
    const evm::U256 wei = evm::to_wei(far("1"));
    world.transact(world.settler, world.token, "approve(address,uint256)", {world.escrow, wei});
    world.transact(world.settler, world.escrow, "depositFor(address,uint256)", {contract, wei});
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(evm::to_lower_case(contract), far("1"), "seen"));
    auto terms = world.signed_for("by a contract", "0.1");
    terms.account = evm::to_lower_case(contract);
    const auto sign_with = [&](evm::Signer& signer) {
      const auto preimage = evm::typed_preimage(evm::escrow_domain(kChain, world.escrow),
                                                evm::typed(payout::to_sign(terms, contract)));
      REQUIRE(preimage);
      const auto bytes =
          evm::sign_checked(signer, evm::Signable::typed_data, *preimage)->to_bytes();
      terms.signature.assign(bytes.begin(), bytes.end());
    };
    evm::RpcOptions endpoints;
    endpoints.endpoints = {variable("FARMESH_RPC")};
    endpoints.chain_id = kChain;
    const auto contracts = evm::contract_wallets(endpoints, evm::http_post());
    const auto check = [&] {
      return payout::check_signature(terms, kChain, world.escrow, contracts).has_value();
    };
    sign_with(world.settler);
    CHECK_FALSE(check());
    sign_with(world.user);
    REQUIRE(check());
    CHECK_FALSE(payout::check_signature(terms, kChain, world.escrow));

    ledger::EscrowReservations reservations(world.store);
    REQUIRE(reservations.sign(terms));
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    world.settle(payer);
    CHECK(reservations.find("by a contract")->status == ledger::ReservationStatus::open);
    world.serve("by a contract", 512, terms.account);
    world.settle(payer);
    CHECK(reservations.find("by a contract")->status == ledger::ReservationStatus::settled);
    CHECK(world.balance_on_chain(contract) == far("0.9488"));
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
    world.check_all(/*balances=*/false);
  }

  TEST_CASE("a user who asks the escrow for his money has no credit left, and is still charged") {
    AnvilWorld world;
    world.become_new_user();
    world.deposit(world.user, "1");
    world.deposit(world.settler, "1");
    world.read_deposits();
    world.serve("before", 512);
    world.transact(world.user, world.escrow, "requestWithdrawal(uint256)",
                   {evm::to_wei(far("0.9"))});
    world.read_deposits();
    ledger::Credits credits(world.store);
    CHECK(credits.account(world.user_account())->available() == far("0.0488"));
    const auto more = credits.reserve(world.user_account(), "more", far("0.05"));
    CHECK(more.error().code == Errc::insufficient_credit);
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    world.settle(payer);
    CHECK(world.balance_on_chain() == far("0.9488"));
    world.check_all(/*balances=*/false);
  }

  TEST_CASE("recipients whom the token refuses, in any way, stop nobody, and find their pay") {
    int mood = 0;
    SUBCASE("it reverts") { mood = 1; }
    SUBCASE("it says no") { mood = 2; }
    SUBCASE("it burns all gas") { mood = 3; }
    SUBCASE("it returns very much") { mood = 4; }
    AnvilWorld world("FARMESH_PICKY_TOKEN", "FARMESH_PICKY_ESCROW");
    evm::KeySigner listed(evm::PrivateKey::generate());
    world.set_wallet(1, evm::to_lower_case(listed.address()));
    world.transact(world.settler, world.token, "setMood(address,uint8)",
                   {listed.address(), evm::U256(std::uint64_t(mood))});
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    world.serve("one", 512);
    payout::Payer payer(world.store, *world.chain, world.settler, world.options());
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
    CHECK(world.tokens_of(world.wallets[1]).is_zero());
    CHECK(world.tokens_of(world.wallets[2]) == evm::to_wei(far("0.0171")));
    world.check_all(/*balances=*/false);
    // It is his all the same: at another address of his own.
    const std::string elsewhere = fresh_wallet();
    world.control("anvil_setBalance", {evm::to_string(listed.address()), "0xde0b6b3a7640000"});
    world.transact(listed, world.escrow, "withdrawClaimable(address)",
                   {*evm::parse_address(elsewhere)});
    CHECK(world.tokens_of(elsewhere) == evm::to_wei(far("0.0171")));
  }

  TEST_CASE("layers on the operator's own machine are paid to him on chain") {
    AnvilWorld world;
    world.become_new_user();
    world.deposit(world.user, "1");
    world.read_deposits();
    ContributionLedger book(world.store);
    SessionStart start = start_of("shared");
    start.user_wallet = world.user_account();
    REQUIRE(ledger::Credits(world.store).reserve(world.user_account(), "shared", far("0.0512")));
    const auto opened = book.begin_session(start);
    REQUIRE(opened);
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{"", {0, 16}}, {node_name(1), {16, 32}}}, 512);
    REQUIRE(book.finalize_session({opened->session_id, SessionStatus::completed, "", log}));
    payout::PayerOptions options = world.options();
    const std::string cold = fresh_wallet();
    options.operator_wallet = *evm::parse_address(cold);
    payout::Payer payer(world.store, *world.chain, world.settler, options);
    world.settle(payer);
    CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0256")));
    CHECK(world.tokens_of(cold) == evm::to_wei(far("0.0256")));
    CHECK(world.balance_on_chain() == far("0.9488"));
    world.check_all(/*balances=*/false);
  }

  TEST_CASE("the program pays with a signer outside its process, and a stranger can prove it") {
    if (std::getenv("FARMESH_PROGRAM") == nullptr) {
      MESSAGE("skipped: the program is not built without libtorch");
      return;
    }
    std::string more;
    SUBCASE("paid directly") {}
    SUBCASE("as leaves of a tree") { more = " --max-gas 100000"; }
    AnvilWorld world;
    *world.clock.time =
        std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    world.deposit(world.settler, "1");
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    world.serve("one", 512);
    const std::string key_file = world.backend.folder.write("key", kSettlerKey).string();
    const std::string signed_file = (world.backend.folder.path() / "signed").string();
    const auto pay = [&](const Address& to) {
      return world.program(
          "payout --once --no-deposits --hold 0 --minimum 0.00000001 "
          "--confirmations 1 --poll 20 --signer " +
              variable("FARMESH_SIGNER") + " --sender " + evm::to_string(world.settler.address()) +
              " --ledger " + world.backend.url + kDeadEndpoint + world.chain_flags() + more,
          "FARMESH_SIGN_FOR=" + evm::to_string(to) + " FARMESH_SIGNED=" + signed_file +
              " FARMESH_KEY_FILE=" + key_file);
    };
    const Ran dry = world.program("payout --dry-run --hold 0 --minimum 0.00000001 --ledger " +
                                  world.backend.url + world.chain_flags() + more);
    CHECK_MESSAGE(dry.status == 0, dry.errors);
    CHECK(dry.output.find(world.wallets[0] + "  0.0170 $FAR\n") != std::string::npos);
    CHECK(dry.errors.find("3 wallets, 0.0512 $FAR") != std::string::npos);
    REQUIRE(world.program("payout --pause 'an audit' --ledger " + world.backend.url).status == 0);
    const Ran paused = pay(world.escrow);
    CHECK(paused.status == 0);
    CHECK(paused.errors.find("an audit") != std::string::npos);
    REQUIRE(world.program("payout --resume --ledger " + world.backend.url).status == 0);
    CHECK(ledger::PaymentBatches(world.store).open_batches()->empty());
    // It reads what it is asked to sign, and refuses what is not for its escrow.
    const Ran refused = pay(world.token);
    CHECK(refused.status == 1);
    CHECK_MESSAGE(refused.errors.find("wallet_signature_invalid") != std::string::npos,
                  refused.errors);
    CHECK(content_of(signed_file).empty());
    const Ran paid = pay(world.escrow);
    CHECK_MESSAGE(paid.status == 0, paid.errors);
    CHECK(content_of(signed_file) == "transaction\n");
    if (more.empty()) {
      CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
      CHECK(world.tokens_of(world.wallets[2]) == evm::to_wei(far("0.0171")));
    }
    const Ran verified =
        world.program("ledger verify --url " + world.backend.url + world.chain_flags());
    CHECK_MESSAGE(verified.status == 0, verified.output, verified.errors);

    // The same by a file, without the ledger.
    const Ran told = world.program("ledger statement --json --url " + world.backend.url +
                                   " --wallet " + world.wallets[1]);
    REQUIRE_MESSAGE(told.status == 0, told.errors);
    const auto check = [&](const std::string& lines) {
      const std::string file = world.backend.folder.write("lines", lines).string();
      return world.program("ledger verify --statement " + file + " --wallet " + world.wallets[1] +
                           world.chain_flags());
    };
    const Ran shown = check(told.output);
    CHECK_MESSAGE(shown.status == 0, shown.output, shown.errors);
    CHECK(shown.errors.find("0.0171 $FAR earned, 0.0171 paid") != std::string::npos);
    const auto changed = [&](const std::string& from, const std::string& to) {
      std::string lines = told.output;
      std::size_t count = 0;
      for (std::size_t at = 0; (at = lines.find(from, at)) != std::string::npos; at += to.size()) {
        lines.replace(at, from.size(), to);
        ++count;
      }
      CHECK_MESSAGE(count > 0, from);
      return check(lines).status;
    };
    CHECK(changed(R"("amount_far":"0.0171")", R"("amount_far":"0.0172")") == 1);
    CHECK(changed(R"("payment_far":"0.0171")", R"("payment_far":"0.0172")") == 1);
    CHECK(changed(R"("tokens":512)", R"("tokens":513)") == 1);
    CHECK(changed(R"("session_id")", R"("session")") == 2);
  }

  TEST_CASE("what a user signs for a request is printed, and his signature taken down") {
    if (std::getenv("FARMESH_PROGRAM") == nullptr) {
      MESSAGE("skipped: the program is not built without libtorch");
      return;
    }
    AnvilWorld world;
    world.become_new_user();
    REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "elsewhere"));
    const auto terms = world.signed_for("by hand", "0.25");
    const std::string flags =
        world.chain_flags() + "--url " + world.backend.url +
        " --request-id 'by hand' --amount 0.25 --user " + terms.account + " --deadline " +
        std::to_string(
            std::chrono::duration_cast<std::chrono::seconds>(terms.deadline.time_since_epoch())
                .count());
    const Ran printed = world.program("ledger reserve " + flags);
    CHECK_MESSAGE(printed.status == 0, printed.errors);
    const auto message = nlohmann::json::parse(printed.output);
    CHECK(message["primaryType"] == "Reservation");
    CHECK(message["domain"]["verifyingContract"] == evm::to_string(world.escrow));
    CHECK(message["message"]["requestId"] == terms.request_key);
    CHECK(message["message"]["amount"] == "250000000000000000");
    const std::string good = evm::to_hex0x(terms.signature);
    const std::string bad = "0x" + std::string(128, '1') + "1b";
    CHECK(world.program("ledger reserve " + flags + " --signature " + bad).status != 0);
    const Ran taken = world.program("ledger reserve " + flags + " --signature " + good);
    CHECK_MESSAGE(taken.status == 0, taken.errors);
    const auto row = ledger::EscrowReservations(world.store).find("by hand");
    REQUIRE(row);
    CHECK(row->signature == terms.signature);
    CHECK(row->status == ledger::ReservationStatus::signed_for);
  }
}

}  // namespace farmesh::test
