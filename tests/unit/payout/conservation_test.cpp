// Ten thousand sessions that end in every way: no unit appears, and none is lost.
#include <random>

#include <doctest/doctest.h>

#include "payout/deposits.hpp"
#include "payout/reservation.hpp"
#include "unit/payout/payouts.hpp"

namespace farmesh::test {
namespace {

constexpr int kSessions = 10'000;
constexpr int kUsers = 7;
constexpr int kNodes = 12;
constexpr int kAtOnce = 250;
constexpr int kReserved = 25;

std::string user_name(int user) { return wallet_name(900 + user); }

struct RandomWorld : PayoutWorld<OnSqlite> {
  std::mt19937 random{42};
  std::vector<ledger::EscrowReservation> on_chain;  // and not served yet
  Far deposited = far("1000");                      // the backing account's

  int draw(int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); }

  RandomWorld() {
    chain.fee_bps = 2'000;
    for (int i = 4; i <= kNodes; ++i) register_node(i, wallet_name(i));
    for (int user = 0; user < kUsers; ++user) fund(user, "3000");
  }

  void fund(int user, const char* amount) {
    chain.deposit(wallet_of(900 + user), far(amount));
    deposited = *deposited.plus(far(amount));
  }

  /// A route of two to four nodes, changed once at times; a fallback of the operator's at others.
  WorkLog work() {
    WorkLog log;
    for (int part = 0; part <= draw(2); ++part) {
      if (draw(20) == 0) {
        log.add_output({}, 1 + static_cast<std::uint32_t>(draw(30)));
        continue;
      }
      const std::uint32_t stages = 2 + static_cast<std::uint32_t>(draw(3));
      std::vector<WorkHop> route;
      for (std::uint32_t i = 0; i < stages; ++i) {
        const int first = 1 + draw(kNodes / 4);
        route.push_back(
            {node_name(first + static_cast<int>(i) * (kNodes / 4)), {i * 8, i * 8 + 8}});
      }
      log.add_prompt(route, static_cast<std::uint32_t>(draw(50)));
      log.add_output(route, static_cast<std::uint32_t>(draw(500)));
    }
    return log;
  }

  /// Some sessions from reservation to end; some never begin, some end otherwise.
  void serve(int round) {
    ledger::Credits credits(store);
    ContributionLedger book(store);
    std::vector<SessionStart> starts;
    for (int i = 0; i < kAtOnce; ++i) {
      SessionStart start = start_of(std::to_string(round) + "/" + std::to_string(i));
      start.user_wallet = user_name(draw(kUsers));
      start.price_per_token = Far::from_units(1 + draw(20'000));
      start.price_per_prompt_token = Far::from_units(draw(3));
      start.platform_fee_bps = static_cast<std::uint32_t>(draw(1'500));
      start.split = draw(2) == 0 ? SplitPolicy::equal : SplitPolicy::layer_units;
      REQUIRE(credits.reserve(start.user_wallet, start.request_id,
                              Far::from_units(1 + draw(20'000'000))));
      if (draw(10) == 0) {  // refused after all: all of it comes back
        REQUIRE(credits.release(start.request_id));
        start.request_id += " unreserved";
      }
      starts.push_back(start);
    }
    const auto opened = book.begin_sessions(starts);
    REQUIRE(opened);
    std::vector<SessionOutcome> outcomes;
    for (const auto& one : *opened) {
      REQUIRE(one);
      const int end = draw(10);
      const SessionStatus status = end < 7   ? SessionStatus::completed
                                   : end < 9 ? SessionStatus::failed
                                             : SessionStatus::cancelled;
      outcomes.push_back({one->session_id, status, "", end == 9 ? WorkLog() : work()});
    }
    const auto ended = book.finalize_sessions(outcomes);
    REQUIRE(ended);
    for (const auto& one : *ended) REQUIRE_MESSAGE(one, one.error().to_string());
    clock.advance(std::chrono::seconds(1));
  }

  /// Some requests by users' signatures: opened now, served in the next round.
  void reserve_on_chain(int round) {
    for (int i = 0; i < kReserved; ++i) {
      ledger::EscrowReservation wanted;
      wanted.request_id = "reserved " + std::to_string(round) + "/" + std::to_string(i);
      wanted.request_key = evm::to_hex0x(payout::request_key(wanted.request_id));
      wanted.account = user_name(draw(kUsers));
      wanted.amount = Far::from_units(1 + draw(20'000'000));
      wanted.deadline = clock.now() + std::chrono::hours(1 + draw(100));
      wanted.signature = {1};  // this chain asks nobody's
      REQUIRE(ledger::EscrowReservations(store).sign(wanted));
      on_chain.push_back(wanted);
    }
  }

  /// Most are used, for whatever they cost; some lapse.
  void serve_reserved() {
    ContributionLedger book(store);
    for (const ledger::EscrowReservation& one : on_chain) {
      if (draw(5) == 0) continue;
      const auto ready = ledger::Credits(store).reserve(one.account, one.request_id, one.amount);
      REQUIRE_MESSAGE(ready, ready.error().to_string());
      SessionStart start = start_of(one.request_id);
      start.user_wallet = one.account;
      start.price_per_token = Far::from_units(1 + draw(20'000));
      const auto opened = book.begin_session(start);
      REQUIRE(opened);
      REQUIRE(book.finalize_session(
          {opened->session_id, SessionStatus::completed, "", draw(4) == 0 ? WorkLog() : work()}));
    }
    on_chain.clear();
  }

  void read_deposits() {
    chain.mine(3);
    payout::DepositWatcher watcher(store, chain, {3, 0, 5'000, 1'000});
    for (bool done = false; !done;) {
      const auto step = watcher.step();
      REQUIRE_MESSAGE(step, step.error().to_string());
      done = step->up_to_date;
    }
  }

  Far sum(const std::string& sql) {
    const auto row = store->transact(
        [&](ledger::Database& db) { return db.query_one<Far>("SELECT coalesce(" + sql + ", 0)"); });
    REQUIRE(row);
    return std::get<0>(**row);
  }
};

}  // namespace

TEST_SUITE("payout/conservation") {
  TEST_CASE("over ten thousand sessions, what came in is what is there, to the last unit") {
    RandomWorld world;
    world.read_deposits();
    Payer payer = world.payer();
    for (int round = 0; round < kSessions / kAtOnce; ++round) {
      world.serve(round);
      if (round % 10 == 8) world.reserve_on_chain(round);
      if (round % 10 == 8 || round % 10 == 9) world.settle(payer);
      if (round % 10 == 8) world.serve_reserved();
      if (round % 13 == 12) {
        world.fund(world.draw(kUsers), "100");
        world.read_deposits();
      }
    }
    world.settle(payer);
    world.clock.advance(std::chrono::hours(24 * 30));  // whatever lapses has lapsed
    world.serve(kSessions);
    world.settle(payer);

    // On chain: users, backing account, providers and fee hold what was ever deposited.
    Far there = world.chain.state.fees;
    for (const auto& [who, balance] : world.chain.state.balances) there = *there.plus(balance);
    const Far to_operator = world.chain.state.paid[kBacking];
    Far paid;
    for (const auto& [who, amount] : world.chain.state.paid) {
      if (who != kBacking) paid = *paid.plus(amount);
    }
    CHECK(*there.plus(*paid.plus(to_operator)) == world.deposited);
    // In the ledger: each cost is somebody's pay, and each payment is on chain.
    const Far cost = world.sum("(SELECT sum(total_cost_far_units) FROM far_mesh_sessions)");
    const Far earned = world.sum("(SELECT sum(payment_far_units) FROM far_session_contributions)");
    const Far fees = world.sum("(SELECT sum(platform_fee_far_units) FROM far_mesh_sessions)");
    const Far own = world.sum("(SELECT sum(operator_far_units) FROM far_mesh_sessions)");
    CHECK(cost == *earned.plus(*fees.plus(own)));
    CHECK(earned == paid);
    // Between them: what users have left here is what they deposited less what they were charged.
    const Far credit = world.sum("(SELECT sum(balance_far_units) FROM far_credit_accounts)");
    const Far charged =
        world.sum("(SELECT -sum(amount_far_units) FROM far_credit_entries WHERE kind = 'charge')");
    CHECK(*world.deposited.minus(charged) == credit);
    CHECK(world.sum("(SELECT sum(reserved_far_units) FROM far_credit_accounts)") == Far());
    // And each user's, on both sides: what is charged here is charged there.
    for (int user = 0; user < kUsers; ++user) {
      const auto account = ledger::Credits(world.store).account(user_name(user));
      REQUIRE(account);
      CHECK(account->balance == world.chain.state.balances[wallet_of(900 + user)]);
    }
    // The operator has his own shares and what he advanced, less what nobody paid.
    const Far backed = *far("1000").minus(world.chain.state.balances[kBacking]);
    CHECK(*to_operator.plus(world.chain.state.fees) == *charged.plus(backed)->minus(paid));
    CHECK(ledger::PayoutBook(world.store).operator_due("")->is_zero());
    CHECK(world.differences().empty());
    world.check_all();
    MESSAGE(paid.to_string(), " $FAR paid, ", world.chain.state.fees.to_string(), " of ",
            fees.to_string(), " fees taken; users were charged ", charged.to_string());
  }
}

}  // namespace farmesh::test
