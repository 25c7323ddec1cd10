// The payer ends between any two of its actions, as a killed process does, and another one goes on:
// everybody is paid, once, and every unit is accounted for.
#include <cstdlib>
#include <random>

#include <doctest/doctest.h>

#include "payout/reservation.hpp"
#include "unit/payout/payouts.hpp"

namespace farmesh::test {
namespace {

using ledger::ReservationStatus;

struct Killed {};

/// Dies at the n-th opportunity: before or after a call to the chain, or inside a transaction of
/// the ledger.
class Fate {
 public:
  void die_at(int opportunity) { left_ = opportunity; }
  void live() { left_ = -1; }
  bool alive_after_all() const { return left_ > 0; }
  void strike() {
    if (left_ > 0 && --left_ == 0) throw Killed();
  }

 private:
  int left_ = -1;
};

struct MortalWorld : PayoutWorld<OnSqlite> {
  Fate fate;

  MortalWorld() {
    chain.on_call = [this](const char*, bool) { fate.strike(); };
  }

  /// A process of its own: its own connection, nothing in memory of the one before.
  std::shared_ptr<ledger::Store> process() {
    LedgerOptions options;
    options.url = backend.url;
    options.durable = false;
    options.clock = [this] {
      fate.strike();
      return clock.now();
    };
    auto opened = ledger::Store::open(options);
    REQUIRE(opened);
    return *opened;
  }

  /// A request by its user's signature, of which this chain asks nobody.
  ledger::EscrowReservation reserve(const std::string& request, const char* amount,
                                    std::chrono::hours until = std::chrono::hours(24)) {
    ledger::EscrowReservation wanted;
    wanted.request_id = request;
    wanted.request_key = evm::to_hex0x(payout::request_key(request));
    wanted.account = wallet_name(900);
    wanted.amount = far(amount);
    wanted.deadline = clock.now() + until;
    wanted.signature = {1};
    const auto made = ledger::EscrowReservations(store).sign(wanted);
    REQUIRE_MESSAGE(made, made.error().to_string());
    return wanted;
  }

  ledger::ReservationStatus status_of(const std::string& request) {
    const auto found = ledger::EscrowReservations(store).find(request);
    REQUIRE(found);
    return found->status;
  }

  PayerOptions options() const {
    PayerOptions options = eager();
    options.owner = "the same machine";
    return options;
  }

  /// False when it was killed.
  bool run(int die_at) {
    fate.live();
    auto mine = process();
    fate.die_at(die_at);
    try {
      Payer payer(mine, chain, signer, options());
      bool idle = false;
      for (int i = 0; i < 2'000; ++i) {
        const auto step = payer.step();
        REQUIRE_MESSAGE(step, step.error().to_string());
        idle = step->did == Did::idle;
        if (idle) break;
        if (step->did != Did::waiting && step->did != Did::errand) continue;
        chain.mine();
        clock.advance(std::chrono::seconds(1));
      }
      CHECK_MESSAGE(idle, "a payer without end");
    } catch (const Killed&) {
      fate.live();
      return false;
    }
    fate.live();
    return true;
  }
};

int kills() {
  const char* wanted = std::getenv("FARMESH_PAYOUT_KILLS");
  return wanted == nullptr ? 200 : std::atoi(wanted);
}

}  // namespace

TEST_SUITE("payout/crash") {
  TEST_CASE("killed once at each step of a batch, it is paid once") {
    int steps = 0;
    for (int at = 1;; ++at) {
      CAPTURE(at);
      MortalWorld world;
      world.deposit("1");
      world.serve("one", 512);
      const bool whole = world.run(at);
      REQUIRE(world.run(0));
      CHECK(world.paid(1) == far("0.0170"));
      CHECK(world.paid(2) == far("0.0171"));
      CHECK(world.paid(3) == far("0.0171"));
      CHECK(world.chain.state.balances[kUser] == far("0.9488"));
      world.check_all();
      steps = at;
      if (whole) break;
    }
    MESSAGE("killed at each of ", steps, " steps");
    CHECK(steps > 20);
  }

  TEST_CASE("killed once at each step of a reservation, it is opened, fixed and charged once") {
    int steps = 0;
    for (int at = 1;; ++at) {
      CAPTURE(at);
      MortalWorld world;
      world.deposit("1");
      world.reserve("one", "0.1");
      world.reserve("unused", "0.2", std::chrono::hours(2));
      const bool opened = world.run(at);
      REQUIRE(world.run(0));
      CHECK(world.status_of("one") == ReservationStatus::open);
      CHECK(world.chain.state.balances[kUser] == far("0.7"));
      world.serve("one", 512);
      world.clock.advance(std::chrono::hours(3));
      const bool whole = world.run(at);
      REQUIRE(world.run(0));
      CHECK(world.status_of("one") == ReservationStatus::settled);
      CHECK(world.status_of("unused") == ReservationStatus::returned);
      CHECK(world.paid(1) == far("0.0170"));
      CHECK(world.paid(3) == far("0.0171"));
      CHECK(world.chain.state.balances[kUser] == far("0.9488"));
      CHECK(world.chain.state.balances[kBacking] == far("1000"));
      world.check_all();
      steps = at;
      if (opened && whole) break;
    }
    MESSAGE("killed at each of ", steps, " steps");
    CHECK(steps > 20);
  }

  TEST_CASE(
      "killed at random, with reorganisations and new work in between, nobody is paid twice") {
    MortalWorld world;
    std::mt19937 random(20'261'123);
    const auto draw = [&](int below) { return static_cast<int>(random() % unsigned(below)); };
    world.deposit("1000");
    Far earned;
    std::vector<std::string> reserved, served;  // by their users' signatures
    int died = 0;
    for (int round = 0; died < kills(); ++round) {
      if (draw(3) == 0) {
        const std::uint32_t tokens = 3 + static_cast<std::uint32_t>(draw(500));
        world.serve("round " + std::to_string(round), tokens, draw(4) != 0);
        earned = *earned.plus(*far("0.0001").times(tokens));
        world.clock.advance(std::chrono::milliseconds(1));
      }
      if (reserved.size() < 3 && draw(8) == 0) {
        reserved.push_back("reserved " + std::to_string(round));
        world.reserve(reserved.back(), "0.1", std::chrono::hours(24 * 7));
      }
      std::erase_if(reserved, [&](const std::string& request) {
        if (world.status_of(request) != ReservationStatus::open) return false;
        const std::uint32_t tokens = 3 + static_cast<std::uint32_t>(draw(900));
        world.serve(request, tokens);
        earned = *earned.plus(*far("0.0001").times(tokens));
        served.push_back(request);
        return true;
      });
      if (draw(10) == 0 && world.chain.blocks.size() > 20) {
        world.chain.reorganise(static_cast<std::size_t>(1 + draw(6)));
      }
      if (draw(7) == 0) world.chain.pool.clear();
      if (draw(9) == 0) world.chain.fee = 1'000'000'000 * static_cast<std::uint64_t>(1 + draw(5));
      world.chain.mined_above = draw(5) == 0 ? 2'000'000'000 : 0;
      if (draw(6) == 0) world.clock.advance(std::chrono::minutes(3));
      if (!world.run(1 + draw(90))) ++died;
    }
    world.chain.mined_above = 0;
    world.chain.on_call = nullptr;
    REQUIRE(world.run(0));
    // Everybody has what the ledger says, to the last unit, and nothing came from nowhere.
    Far paid;
    for (int i = 1; i <= 3; ++i) paid = *paid.plus(world.paid(i));
    CHECK(paid == earned);
    Far left = *world.chain.state.balances[kUser].plus(world.chain.state.balances[kBacking]);
    for (const auto& [key, hold] : world.chain.state.holds) {
      left = *left.plus(evm::from_wei(hold.amount)->amount);
    }
    CHECK(*left.plus(*paid.plus(world.chain.state.paid[kBacking])) == far("2000"));
    int settled = 0;
    for (const std::string& request : served) {
      settled += world.status_of(request) == ReservationStatus::settled;
    }
    CHECK(settled > 0);
    world.check_all();
    MESSAGE("killed ", died, " times; ", settled, " of ", served.size(), " reservations settled; ",
            paid.to_string(), " $FAR paid in ",
            ledger::PaymentBatches(world.store).confirmed_since(LedgerTime())->size(), " batches");
  }
}

}  // namespace farmesh::test
