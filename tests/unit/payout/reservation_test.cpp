// Reservations on chain: signed by users, opened, served on, charged or returned.
#include "payout/reservation.hpp"

#include <doctest/doctest.h>

#include "unit/payout/payouts.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using ledger::EscrowReservation;
using ledger::EscrowReservations;
using ledger::ReservationStatus;
using State = payout::EscrowHold::State;

const evm::KeySigner kOwner(key_of(9));
const std::string kAccount = evm::to_lower_case(kOwner.address());

template <class Backend>
struct ReservationWorld : PayoutWorld<Backend> {
  ReservationWorld() {
    if (!this->store) return;
    this->chain.deposit(kOwner.address(), far("1"));
    REQUIRE(ledger::Credits(this->store).deposit(kAccount, far("1"), "in"));
  }

  EscrowReservation terms(const std::string& request, const char* amount = "0.1") {
    EscrowReservation wanted;
    wanted.request_id = request;
    wanted.request_key = evm::to_hex0x(payout::request_key(request));
    wanted.account = kAccount;
    wanted.amount = far(amount);
    wanted.deadline = this->clock.now() + 24h;
    const auto digest =
        evm::typed_digest(evm::escrow_domain(this->chain.id(), this->chain.escrow()),
                          evm::typed(payout::to_sign(wanted, kOwner.address())));
    REQUIRE(digest);
    const auto bytes = evm::sign(key_of(9), *digest).to_bytes();
    wanted.signature.assign(bytes.begin(), bytes.end());
    return wanted;
  }

  void sign(const std::string& request, const char* amount = "0.1") {
    const auto made = EscrowReservations(this->store).sign(terms(request, amount));
    REQUIRE_MESSAGE(made, made.error().to_string());
  }

  EscrowReservation row(const std::string& request) {
    const auto found = EscrowReservations(this->store).find(request);
    REQUIRE(found);
    return *found;
  }

  payout::EscrowHold hold(const std::string& request) {
    return this->chain.state.holds[{kOwner.address(), payout::request_key(request)}];
  }

  ledger::CreditAccount credit() {
    const auto account = ledger::Credits(this->store).account(kAccount);
    REQUIRE(account);
    return *account;
  }

  /// What the coordinator does for the request: reserves, serves, settles.
  SessionRecord serve_reserved(const std::string& request, std::uint32_t tokens) {
    ContributionLedger book(this->store);
    SessionStart start = start_of(request);
    start.user_wallet = kAccount;
    start.split = SplitPolicy::equal;
    const auto reserved = ledger::Credits(this->store)
                              .reserve(kAccount, request, *start.price_per_token.times(tokens));
    REQUIRE_MESSAGE(reserved, reserved.error().to_string());
    const auto opened = book.begin_session(start);
    REQUIRE(opened);
    const auto ended =
        book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(tokens)});
    REQUIRE_MESSAGE(ended, ended.error().to_string());
    return *ended;
  }

  Far on_chain() { return this->chain.state.balances[kOwner.address()]; }

  void check_balances() {
    this->check_all();
    AuditReport report;
    REQUIRE(payout::check_payments(this->store, this->chain, report));
    for (const AuditFinding& finding : report.findings) FAIL_CHECK(finding.row, finding.what);
  }
};

}  // namespace

TEST_SUITE("payout/reservation") {
  TEST_CASE_TEMPLATE("signed, opened, served, fixed, charged by the batch that pays the nodes",
                     Backend, OnSqlite, OnPostgres) {
    ReservationWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    Payer payer = world.payer();
    world.sign("one");
    CHECK(world.credit().available() == far("0.9"));
    // Nothing is served on it before it is deep enough in the chain.
    const auto early = ledger::Credits(world.store).reserve(kAccount, "one", far("0.05"));
    REQUIRE_FALSE(early);
    CHECK(early.error().code == Errc::ledger_conflict);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.hold("one").state == State::open);
    CHECK(world.row("one").status == ReservationStatus::open);
    CHECK(world.on_chain() == far("0.9"));

    CHECK(world.serve_reserved("one", 512).uncollected == Far());
    CHECK(world.credit().balance == far("0.9488"));
    CHECK(world.credit().available() == far("0.9488"));
    world.settle(payer);
    CHECK(world.hold("one").state == State::closed);
    CHECK(world.row("one").status == ReservationStatus::settled);
    CHECK(world.on_chain() == far("0.9488"));
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.paid(3) == far("0.0171"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    world.check_balances();
  }

  TEST_CASE("a request never costs more than was signed for, nor is it served on credit") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("one", "0.03");
    world.settle(payer);
    const auto more = ledger::Credits(world.store).reserve(kAccount, "one", far("0.04"));
    REQUIRE_FALSE(more);
    CHECK(more.error().code == Errc::insufficient_credit);
    ContributionLedger book(world.store);
    SessionStart start = start_of("one");
    start.user_wallet = kAccount;
    REQUIRE(ledger::Credits(world.store).reserve(kAccount, "one", far("0.03")));
    const auto opened = book.begin_session(start);
    REQUIRE(opened);
    const auto ended =
        book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(512)});
    REQUIRE(ended);
    CHECK(ended->uncollected == far("0.0212"));
    CHECK(world.credit().balance == far("0.97"));
    world.settle(payer);
    CHECK(world.on_chain() == far("0.97"));
    CHECK(world.chain.state.balances[kBacking] == far("999.9788"));  // the nodes have earned it
    world.check_balances();
  }

  TEST_CASE("what was fixed is charged though its nodes wait, and nobody is charged twice for it") {
    ReservationWorld<OnSqlite> world;
    PayerOptions options = eager();
    options.minimum = far("0.0171");  // the first node's 0.0170 waits
    Payer payer = world.payer(options);
    world.sign("one");
    world.settle(payer);
    world.serve_reserved("one", 512);
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::settled);
    CHECK(world.on_chain() == far("0.9488"));
    CHECK(world.paid(1) == Far());
    CHECK(world.chain.state.paid[kBacking] == far("0.0170"));  // until the node is due
    world.check_balances();
    world.clock.advance(1s);
    world.serve("two", 3, false);  // 0.0001 more
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0171"));
    CHECK(world.chain.state.paid[kBacking] == far("0.0170"));
    CHECK(world.on_chain() == far("0.9488"));
    world.check_balances();
  }

  TEST_CASE("what was fixed is charged before it ends though no node is due, whatever the day") {
    ReservationWorld<OnSqlite> world;
    PayerOptions options = eager();
    options.minimum = far("1");  // which nobody has earned
    SUBCASE("all the time") {}
    SUBCASE("weekly") { options.schedule = payout::Schedule(); }
    Payer payer = world.payer(options);
    world.sign("one");
    world.settle(payer);
    world.serve_reserved("one", 512);
    world.settle(payer);
    world.clock.advance(11 * 24h);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.row("one").status == ReservationStatus::authorized);
    world.clock.advance(36h);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.row("one").status == ReservationStatus::settled);
    CHECK(world.on_chain() == far("0.9488"));
    CHECK(world.paid(1) == Far());
    CHECK(world.chain.state.paid[kBacking] == far("0.0512"));
    world.check_balances();
    // The nodes have theirs when they are due, from what the operator was given for them.
    REQUIRE(payer.yield());
    Payer later = world.payer();
    world.settle(later);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.chain.state.balances[kBacking] == far("999.9488"));
    world.check_balances();
  }

  TEST_CASE_TEMPLATE("one that is never used goes back to its user at its deadline", Backend,
                     OnSqlite, OnPostgres) {
    ReservationWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    Payer payer = world.payer();
    world.sign("one");
    world.settle(payer);
    CHECK(world.on_chain() == far("0.9"));
    world.clock.advance(25h);
    world.settle(payer);
    CHECK(world.hold("one").state == State::closed);
    CHECK(world.row("one").status == ReservationStatus::returned);
    CHECK(world.on_chain() == far("1"));
    CHECK(world.credit().available() == far("1"));
    world.check_balances();
  }

  TEST_CASE("a request that costs nothing, or never became a session, is refunded at once") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("empty");
    world.sign("released");
    world.settle(payer);
    CHECK(world.on_chain() == far("0.8"));
    world.serve_reserved("empty", 0);
    REQUIRE(ledger::Credits(world.store).release("released"));
    world.settle(payer);
    CHECK(world.on_chain() == far("1"));
    CHECK(world.row("empty").status == ReservationStatus::returned);
    CHECK(world.row("released").status == ReservationStatus::returned);
    CHECK(world.credit().available() == far("1"));
    world.check_balances();
  }

  TEST_CASE("a cost that was not fixed in time is the user's again, and the operator's loss") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("one");
    world.settle(payer);
    world.serve_reserved("one", 512);
    world.clock.advance(25h);  // no payer ran
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::returned);
    CHECK(world.on_chain() == far("1"));
    CHECK(world.credit().balance == far("1"));
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.chain.state.balances[kBacking] == far("999.9488"));
    world.check_balances();
  }

  TEST_CASE("one that the escrow refuses is refused here, and its credit is free again") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.chain.state.balances[kOwner.address()] = far("0.05");  // withdrawn meanwhile
    world.sign("one");
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.row("one").status == ReservationStatus::refused);
    CHECK(world.credit().available() == far("1"));
    const auto late = ledger::Credits(world.store).reserve(kAccount, "one", far("0.01"));
    CHECK(late.error().code == Errc::ledger_conflict);
  }

  TEST_CASE("an opening that stands already, by an endpoint that was behind, is not refused") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("one");
    world.until(payer, Did::errand);
    world.chain.mine();
    world.chain.old_holds = 1;
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.chain.old_holds == 0);
    CHECK(world.row("one").status == ReservationStatus::open);
    world.check_balances();
  }

  TEST_CASE_TEMPLATE("what a pause, or a role not granted yet, stops is opened once it ends",
                     Backend, OnSqlite, OnPostgres) {
    ReservationWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    Payer payer = world.payer();
    bool paused = true;
    SUBCASE("paused") {}
    SUBCASE("without its role") { paused = false; }
    const auto stop = [&](bool on) {
      if (paused) {
        world.chain.state.paused = on;
      } else if (on) {
        world.chain.state.dismissed.insert(world.signer.address());
      } else {
        world.chain.state.dismissed.clear();
      }
    };
    stop(true);
    world.sign("one");
    world.sign("two", "0.2");
    for (int hour = 0; hour < 5; ++hour) {
      CHECK(world.settle(payer).did == Did::idle);
      world.clock.advance(1h);
    }
    CHECK(world.chain.sends == 0);
    CHECK(world.row("one").status == ReservationStatus::signed_for);
    CHECK(world.credit().available() == far("0.7"));
    stop(false);
    world.clock.advance(payer.options().retry_after);
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::open);
    CHECK(world.row("two").status == ReservationStatus::open);
    CHECK(world.on_chain() == far("0.7"));
    world.check_balances();
  }

  TEST_CASE("a pause that outlasts the deadline gives the credit back, and sends nothing") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.chain.state.paused = true;
    world.sign("one");
    world.settle(payer);
    world.clock.advance(24h);
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.row("one").status == ReservationStatus::refused);
    CHECK(world.row("one").reason == "its deadline passed before it was opened");
    CHECK(world.credit().available() == far("1"));
    CHECK(world.chain.sends == 0);
    world.check_balances();
  }

  TEST_CASE("a pause after the opening stops the settlement, and the user's money comes back") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("one");
    world.settle(payer);
    world.serve_reserved("one", 512);
    world.chain.state.paused = true;
    world.step(payer);
    world.clock.advance(25h);  // the exits have no pause
    for (int i = 0; i < 20; ++i) {
      world.step(payer);
      world.chain.mine();
      world.clock.advance(1min);
    }
    CHECK(world.row("one").status == ReservationStatus::returned);
    CHECK(world.on_chain() == far("1"));
    world.chain.state.paused = false;
    world.clock.advance(payer.options().retry_after);
    world.settle(payer);
    CHECK(world.paid(1) == far("0.0170"));
    CHECK(world.credit().balance == far("1"));
    world.check_balances();
  }

  TEST_CASE_TEMPLATE("what a user has asked back buys nothing on credit, but what he signs for",
                     Backend, OnSqlite, OnPostgres) {
    ReservationWorld<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    Payer payer = world.payer();
    ledger::Credits credits(world.store);
    REQUIRE(credits.set_leaving(kAccount, far("1000")));
    world.chain.request_withdrawal(kOwner.address(), far("1000"));
    CHECK(credits.reserve(kAccount, "on credit", far("0.0001")).error().code ==
          Errc::insufficient_credit);
    world.sign("one");
    const auto beyond = EscrowReservations(world.store).sign(world.terms("two", "0.91"));
    CHECK(beyond.error().code == Errc::insufficient_credit);
    world.settle(payer);
    CHECK(world.serve_reserved("one", 512).uncollected == Far());
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::settled);
    CHECK(world.on_chain() == far("0.9488"));
    CHECK(world.chain.state.balances[kBacking] == far("1000"));
    world.check_balances();
  }

  TEST_CASE("a reorganisation that takes an opening is seen, and it is opened again") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("one");
    world.until(payer, Did::errand);
    world.chain.mine();
    CHECK(world.step(payer).did == Did::errand);  // on chain, one block deep
    CHECK(world.hold("one").state == State::open);
    world.chain.reorganise(1);
    CHECK(world.hold("one").state == State::none);
    world.settle(payer);
    CHECK(world.hold("one").state == State::open);
    CHECK(world.row("one").status == ReservationStatus::open);
    world.check_balances();
  }

  TEST_CASE("a batch that a reorganisation drops takes its reservations along, once more") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.sign("one");
    world.settle(payer);
    world.serve_reserved("one", 512);
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::settled);
    world.chain.reorganise(3);
    CHECK(world.step(payer).did == Did::reopened);
    CHECK(world.row("one").status == ReservationStatus::authorized);
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::settled);
    CHECK(world.on_chain() == far("0.9488"));
    CHECK(world.paid(2) == far("0.0171"));
    world.check_balances();
  }

  TEST_CASE(
      "where a reorganisation takes an opening with all that followed, nodes keep their pay") {
    ReservationWorld<OnSqlite> world;
    world.chain.mine(10);
    Payer payer = world.payer();
    world.serve("on credit", 3, false);
    world.sign("one");
    world.settle(payer);
    world.serve_reserved("one", 512);
    world.settle(payer);
    REQUIRE(world.chain.state.nonces[world.signer.address()] == 4);  // pay, open, fix, pay
    world.chain.reorganise(world.chain.blocks.size() - 12);
    world.chain.pool.clear();
    CHECK(world.on_chain() == far("1"));
    for (int i = 0; i < 60; ++i) {
      world.step(payer);
      world.chain.mine();
      world.clock.advance(payer.options().stuck_after);
    }
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.paid(1) == far("0.0171"));
    CHECK(world.paid(2) == far("0.0172"));
    // Its user has it back; the operator, who did not wait for more blocks, has paid for him.
    world.clock.advance(15 * 24h);
    world.settle(payer);
    CHECK(world.row("one").status == ReservationStatus::returned);
    CHECK(world.on_chain() == far("1"));
    CHECK(world.credit().available() == far("1"));
    CHECK(world.chain.state.balances[kBacking] == far("999.9485"));
    world.check_balances();
  }

  TEST_CASE("reservations that keep coming do not keep the nodes from being paid") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    world.serve("on credit", 3, false);
    int coming = 0;
    while (world.paid(1).is_zero() && coming < 100) {
      world.sign("one more " + std::to_string(++coming), "0.001");
      world.step(payer);
      world.chain.mine();
      world.clock.advance(1s);
    }
    CHECK(world.paid(1) == far("0.0001"));
    CHECK(coming < 20);
    CHECK(world.settle(payer).did == Did::idle);
    for (int i = 1; i <= coming; ++i) {
      CHECK(world.row("one more " + std::to_string(i)).status == ReservationStatus::open);
    }
    world.check_balances();
  }

  TEST_CASE("a stuck opening is sent again with a higher fee; a payer that is paused opens none") {
    ReservationWorld<OnSqlite> world;
    Payer payer = world.payer();
    ledger::PayoutBook book(world.store);
    REQUIRE(book.pause("an audit"));
    world.sign("one");
    CHECK(world.settle(payer).did == Did::paused);
    CHECK(world.chain.sends == 0);
    REQUIRE(book.resume());
    world.chain.mined_above = 2'000'000'000;
    CHECK(world.step(payer).did == Did::errand);
    world.chain.mine();
    CHECK(world.step(payer).did == Did::errand);
    CHECK(world.hold("one").state == State::none);
    world.clock.advance(payer.options().stuck_after);
    world.chain.fee = 3'000'000'000;
    CHECK(world.settle(payer).did == Did::idle);
    CHECK(world.row("one").status == ReservationStatus::open);
    CHECK(world.chain.state.nonces[world.signer.address()] == 1);
  }

  TEST_CASE("signatures: of another key, amount, request or escrow they are none") {
    ReservationWorld<OnSqlite> world;
    const std::uint64_t chain = world.chain.id();
    const auto good = world.terms("one");
    CHECK(payout::check_signature(good, chain, world.chain.escrow()));
    CHECK_FALSE(payout::check_signature(good, chain, address_of(1)));
    CHECK_FALSE(payout::check_signature(good, chain + 1, world.chain.escrow()));
    for (const auto& change : std::initializer_list<void (*)(EscrowReservation&)>{
             [](EscrowReservation& one) { one.amount = far("0.2"); },
             [](EscrowReservation& one) { one.request_id = "two"; },
             [](EscrowReservation& one) { one.deadline += 1s; },
             [](EscrowReservation& one) { one.account = wallet_name(7); },
             [](EscrowReservation& one) { one.account = "key:7"; },
             [](EscrowReservation& one) { one.signature.pop_back(); }}) {
      EscrowReservation bad = good;
      change(bad);
      CHECK_FALSE(payout::check_signature(bad, chain, world.chain.escrow()));
    }
    // A wallet that is a contract accepts what it likes, where somebody can ask it.
    EscrowReservation contract = good;
    contract.account = wallet_name(7);
    contract.signature.assign(200, 0x77);
    CHECK_FALSE(payout::check_signature(contract, chain, world.chain.escrow()));
    const auto accepts = [&](const Address& who, const Bytes32&, evm::BytesView signature) {
      return Result<bool>(who == wallet_of(7) && signature.size() == 200);
    };
    CHECK(payout::check_signature(contract, chain, world.chain.escrow(), accepts));
    contract.signature.pop_back();
    CHECK_FALSE(payout::check_signature(contract, chain, world.chain.escrow(), accepts));
    // Twice is once; other terms for the same request are a conflict; more than there is, too much.
    EscrowReservations reservations(world.store);
    REQUIRE(reservations.sign(good));
    CHECK(reservations.sign(good));
    CHECK(reservations.sign(world.terms("one", "0.2")).error().code == Errc::ledger_conflict);
    CHECK(reservations.sign(world.terms("rich", "5")).error().code == Errc::insufficient_credit);
    CHECK(reservations.sign(world.terms("zero", "0")).error().code == Errc::amount_invalid);
    CHECK(world.credit().available() == far("0.9"));
  }
}

}  // namespace farmesh::test
