// Processes that end by SIGKILL on a real chain: the payer at its touches of the chain, and the
// program itself at any moment.
#include <algorithm>
#include <cstdlib>
#include <random>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <spawn.h>

#include "payout/anvil_world.hpp"

namespace farmesh::test {
namespace {

using ledger::EscrowReservations;
using ledger::ReservationStatus;

int number_from(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

std::string daemon_flags(const AnvilWorld& world) {
  return world.chain_flags() + "--start-block " + std::to_string(AnvilWorld::start_block()) +
         " --ledger " + world.backend.url +
         " --key-fd 0 --hold 0 --minimum 0.00000001 --confirmations 1 --poll 5";
}

/// `farmesh payout` as it runs for months, until it is killed.
class Daemon {
 public:
  Daemon(AnvilWorld& world, const std::string& key_file) {
    const std::string quiet = (world.backend.folder.path() / "daemon").string();
    std::vector<std::string> words{variable("FARMESH_PROGRAM"), "payout"};
    std::istringstream flags(daemon_flags(world) + " --schedule hourly");
    for (std::string word; flags >> word;) words.push_back(word);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 0, key_file.c_str(), O_RDONLY, 0);
    for (const int descriptor : {1, 2}) {
      ::posix_spawn_file_actions_addopen(&files, descriptor, quiet.c_str(),
                                         O_WRONLY | O_CREAT | O_APPEND, 0600);
    }
    const int failed = ::posix_spawn(&pid_, argv[0], &files, nullptr, argv.data(), ::environ);
    ::posix_spawn_file_actions_destroy(&files);
    REQUIRE(failed == 0);
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() { kill(); }

  /// Whether it was alive until then.
  bool kill() {
    if (pid_ <= 0) return false;
    ::kill(pid_, SIGKILL);
    int status = 0;
    const bool waited = ::waitpid(pid_, &status, 0) == pid_;
    pid_ = -1;
    return waited && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }

 private:
  pid_t pid_ = -1;
};

/// The hour's payment is due again, and what a dead payer held is free: as if time had passed.
void let_time_pass(AnvilWorld& world) {
  REQUIRE(ledger::PayoutBook(world.store).set_last_run("last run 31337", LedgerTime()));
  const auto freed = world.store->transact([](ledger::Database& db) {
    return db.execute("UPDATE far_payout_leases SET expires_at = ?1", {LedgerTime()});
  });
  REQUIRE(freed);
}

/// A run that nobody kills, until nothing is left to do.
void see_through(AnvilWorld& world, const std::string& key_file) {
  let_time_pass(world);
  const Ran ran = world.program("payout --once" + daemon_flags(world) + " <" + key_file);
  REQUIRE_MESSAGE(ran.status == 0, ran.errors);
}

/// Deposits, asks on credit or by reservation, and knows what he has spent.
class UserOfChance {
 public:
  explicit UserOfChance(AnvilWorld& world) : world_(world), reservations_(world.store) {}

  void deposits(const char* amount) {
    const evm::U256 wei = evm::to_wei(far(amount));
    world_.transact(world_.user, world_.token, "approve(address,uint256)", {world_.escrow, wei});
    world_.transact(world_.user, world_.escrow, "deposit(uint256)", {wei});
    deposited_ = *deposited_.plus(far(amount));
  }
  void asks(const std::string& request, bool by_reservation) {
    world_.clock.advance(1ms);
    if (world_.credit() < far("1")) return;  // his deposit has not been seen yet
    if (by_reservation) {
      REQUIRE(reservations_.sign(world_.signed_for(request, "0.06", 24h * 7)));
      waiting_.push_back(request);
    } else {
      world_.serve(request, 512);
      charged_ = *charged_.plus(far("0.0512"));
    }
  }
  void gets_what_is_open() {
    std::erase_if(waiting_, [&](const std::string& request) {
      if (reservations_.find(request)->status != ReservationStatus::open) return false;
      world_.serve(request, 500);
      charged_ = *charged_.plus(far("0.05"));
      return true;
    });
  }
  /// His money in the escrow is what the ledger says, without what it holds for requests to come,
  /// and with what no batch has charged yet.
  void check() {
    CHECK(world_.credit() == *deposited_.minus(charged_));
    Far expected = world_.credit();
    for (const std::string& request : waiting_) {
      CHECK(reservations_.find(request)->status == ReservationStatus::open);
      expected = *expected.minus(far("0.06"));
    }
    const auto debts = ledger::PayoutBook(world_.store).debts();
    REQUIRE(debts);
    for (const ledger::UserCharge& debt : *debts) {
      if (debt.account == world_.user_account()) expected = *expected.plus(debt.amount);
    }
    CHECK(world_.balance_on_chain() == expected);
  }
  Far charged() const { return charged_; }

 private:
  AnvilWorld& world_;
  EscrowReservations reservations_;
  Far deposited_, charged_;
  std::vector<std::string> waiting_;  // reserved, and not served yet
};

Far earned_by(AnvilWorld& world, const std::string& wallet) {
  const auto sum = world.store->transact([&](ledger::Database& db) {
    return db.query_one<Far>(
        "SELECT coalesce(sum({payment_far}), 0) FROM far_session_contributions WHERE "
        "wallet_address = ?1",
        {wallet});
  });
  REQUIRE(sum);
  return std::get<0>(**sum);
}

}  // namespace

TEST_SUITE("payout/kills") {
  TEST_CASE(
      "killed at each touch of the chain while reservations open, are fixed, charged, returned") {
    const int every = number_from("FARMESH_PAYOUT_KILL_STRIDE", 1);
    int kills = 0;
    for (int at = 1;; at += every) {
      CAPTURE(at);
      AnvilWorld world;
      world.become_new_user();
      world.deposit(world.user, "1");
      world.deposit(world.settler, "1");
      REQUIRE(ledger::Credits(world.store).deposit(world.user_account(), far("1"), "seen"));
      EscrowReservations reservations(world.store);
      const auto used = world.signed_for("used", "0.1", 24h);
      const auto lapsing = world.signed_for("never used", "0.3", 1h);
      REQUIRE(reservations.sign(used));
      REQUIRE(reservations.sign(lapsing));
      const LedgerTime before = lapsing.deadline - 30min;
      const bool opened = world.pay_and_die(at, before);
      REQUIRE(world.pay_and_die(0, before));
      CHECK(reservations.find("used")->status == ReservationStatus::open);
      CHECK(world.balance_on_chain() == far("0.6"));

      world.serve("used", 512);
      world.control("evm_increaseTime", nlohmann::json::array({3'700}));
      world.mine();
      const LedgerTime after = lapsing.deadline + 1min;
      const bool whole = world.pay_and_die(at, after);
      REQUIRE(world.pay_and_die(0, after));
      CHECK(reservations.find("used")->status == ReservationStatus::settled);
      CHECK(reservations.find("never used")->status == ReservationStatus::returned);
      CHECK(world.balance_on_chain() == far("0.9488"));
      CHECK(world.tokens_of(world.wallets[0]) == evm::to_wei(far("0.0170")));
      CHECK(world.tokens_of(world.wallets[1]) == evm::to_wei(far("0.0171")));
      CHECK(world.tokens_of(world.wallets[2]) == evm::to_wei(far("0.0171")));
      world.check_all(/*balances=*/false);
      kills += !opened + !whole;
      if (opened && whole) break;
    }
    MESSAGE("killed ", kills, " times, at every touch number ", every);
    CHECK(kills >= 40 / every);
  }

  TEST_CASE("the daemon, killed at two hundred moments of chance, pays everybody once") {
    if (std::getenv("FARMESH_PROGRAM") == nullptr) {
      MESSAGE("skipped: the program is not built without libtorch");
      return;
    }
    AnvilWorld world;
    world.become_new_user();
    world.deposit(world.settler, "100");
    world.transact(world.settler, world.token, "transfer(address,uint256)",
                   {world.user.address(), evm::to_wei(far("1000"))});
    UserOfChance user(world);
    user.deposits("10");
    const std::string key_file = world.backend.folder.write("key", kSettlerKey).string();
    std::mt19937 random(7);
    const auto draw = [&](int below) { return static_cast<int>(random() % unsigned(below)); };

    // The first payment, undisturbed, tells how long one takes here and now.
    see_through(world, key_file);
    user.asks("the first", false);
    const auto begun = std::chrono::steady_clock::now();
    see_through(world, key_file);
    const auto taken = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begun);
    const int longest = static_cast<int>(std::clamp<std::int64_t>(2 * taken.count(), 50, 1'000));

    const int wanted = number_from("FARMESH_PAYOUT_KILLS", 200);
    int under_way = 0;
    for (int round = 0; round < wanted; ++round) {
      user.gets_what_is_open();
      if (draw(8) == 0) user.deposits("1");
      if (draw(3) != 0) user.asks("request " + std::to_string(round), draw(3) == 0);
      let_time_pass(world);
      Daemon daemon(world, key_file);
      std::this_thread::sleep_for(std::chrono::milliseconds(draw(longest)));
      REQUIRE(daemon.kill());
      const auto open = ledger::PaymentBatches(world.store).open_batches();
      REQUIRE(open);
      under_way += !open->empty();
    }
    for (int i = 0; i < 3; ++i) see_through(world, key_file);

    for (const std::string& wallet : world.wallets) {
      CHECK(world.tokens_of(wallet) == evm::to_wei(earned_by(world, wallet)));
    }
    user.check();
    const auto paid = ledger::PaymentBatches(world.store).confirmed_since(LedgerTime());
    REQUIRE(paid);
    CHECK(ledger::PaymentBatches(world.store).open_batches()->empty());
    world.check_all(/*balances=*/false);
    MESSAGE("killed ", wanted, " times within ", longest, " ms, ", under_way,
            " times with a batch under way; ", user.charged().to_string(), " $FAR in ",
            paid->size(), " batches");
    CHECK(under_way > 0);
  }
}

}  // namespace farmesh::test
