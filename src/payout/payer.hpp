// From unpaid work to confirmed transfers, exactly once.
//
// Takes contributions from the ledger, gives settlements to the escrow. docs/payout.md has the
// picture. Payer::step() does the next thing that is to be done and returns; it keeps nothing in
// memory that matters, so a process may end between any two of its actions, and the next one finds
// in ledger and chain what there is to do. What makes paying twice impossible is the contract: a
// batch's id is good for one settlement. Confined to one thread; several payers may share a ledger.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "evm/signer.hpp"
#include "evm/transaction.hpp"
#include "ledger/payment_batches.hpp"
#include "ledger/payout_book.hpp"
#include "payout/chain.hpp"
#include "payout/errands.hpp"
#include "payout/schedule.hpp"
#include "payout/settlement.hpp"

namespace farmesh::payout {

struct PayerOptions {
  Far minimum = Far::from_units(10 * Far::kUnitsPerFar);   // a wallet's; less waits
  std::chrono::milliseconds hold = std::chrono::hours(1);  // before work is payable
  std::chrono::milliseconds dust_after{0};        // below the minimum too when that old; 0: never
  std::size_t max_wallets = 500;                  // in a batch
  std::optional<Far> daily_limit;                 // of all batches made within 24 hours
  std::optional<Schedule> schedule = Schedule();  // nothing: whenever there is something

  std::uint64_t confirmations = 15;          // blocks, the one with the transaction included
  std::uint64_t max_gas = 12'000'000;        // of a direct settlement; above it a tree is funded
  std::optional<evm::U256> max_cost;         // wei of a direct settlement; above it a tree
  std::optional<evm::U256> max_fee_per_gas;  // wei; payout waits while the chain asks more
  std::chrono::milliseconds stuck_after = std::chrono::minutes(2);  // then the fee is raised
  std::chrono::milliseconds retry_after = std::chrono::minutes(5);  // a batch the chain refused
  std::chrono::milliseconds watch = std::chrono::hours(24);  // how long confirmed ones are watched

  std::optional<evm::Address> backing;  // pays what no user's account covers; nothing: the sender
  // Receives what users pay and no node and no fee has a claim to; nothing: the backing account.
  std::optional<evm::Address> operator_wallet;
  std::size_t max_charges = 300;  // users charged in a batch
  bool take_fee = true;           // the platform's fee, as far as the contract allows

  std::string owner;  // this process, for the lease; drawn when empty
  std::chrono::milliseconds lease = std::chrono::minutes(2);
};

/// What step() found to do.
enum class Did : std::uint8_t {
  idle,       // nothing is due
  standby,    // another payer has the lease
  paused,     // the switch is set, and nothing is under way
  claimed,    // made a batch
  held,       // took recipients out of a batch that no chain would pay
  sent,       // signed, wrote down and sent a transaction, new or with a higher fee
  waiting,    // for the chain: a block, confirmations, lower fees
  confirmed,  // a batch is paid
  reopened,   // the chain had forgotten a confirmed batch
  failed,     // the chain refuses a batch; it is tried again later
  errand,     // opened, fixed or returned reservations, or waits for such a transaction
};
std::string_view name(Did did) noexcept;

struct Step {
  Did did = Did::idle;
  std::string batch_id;  // where there is one
  std::string what;      // for people and logs
};

class Payer {
 public:
  Payer(std::shared_ptr<ledger::Store> store, Chain& chain, evm::Signer& signer,
        PayerOptions options);

  /// Errors are the ledger's or the chain's, and pass: call it again after a while. Fails with
  /// ledger_conflict when another payer took over in the middle.
  Result<Step> step();

  /// Pays now what is payable, whatever the schedule says.
  void run_now() noexcept { run_now_ = true; }

  /// The batch that would be made now, and how it would be settled. Changes nothing.
  struct Preview {
    std::vector<ledger::Payable> payable;
    Far total;
    Method method = Method::direct;
    std::uint64_t expected_gas = 0;
    evm::Fees fees;
  };
  Result<Preview> preview();

  /// Lets the next payer begin at once.
  Result<void> yield();

  const PayerOptions& options() const noexcept { return options_; }

 private:
  struct Sent;

  Step did_errand(std::string what);
  Result<std::optional<Step>> watch_confirmed();
  Result<std::optional<ledger::PaymentBatch>> next_batch();
  Result<std::optional<Step>> claim();
  Result<Step> drive(const ledger::PaymentBatch& batch);
  Result<Step> look_after(const ledger::PaymentBatch& batch, const std::vector<Sent>& sent);
  Result<Step> confirm(const ledger::PaymentBatch& batch, const Sent& landed,
                       const evm::Receipt& receipt);
  Result<std::optional<Step>> hold_unpayable(const ledger::PaymentBatch& batch);
  Result<Settlement> plan(const ledger::PaymentBatch& batch, const evm::Fees& fees);
  Result<void> plan_charges(Settlement& settlement);
  Result<Far> fee_wanted(Far paid, const std::string& batch_id);
  Result<Far> charge_reservations(Settlement& settlement);
  /// Whether reservations end before the next batch may come, unless one charges them now.
  Result<bool> reservations_end();
  Result<Far> charge_users(Settlement& settlement, Far wanted);
  Result<void> charge_backing(Settlement& settlement, Far left);
  Result<Step> send_new(const ledger::PaymentBatch& batch);
  Result<Step> raise(const ledger::PaymentBatch& batch, const Sent& stuck, std::uint64_t nonce);
  Result<Step> sign_and_send(const std::string& batch_id, evm::Transaction transaction,
                             const std::optional<Part>& to_operator, const std::string& why);
  Result<Step> refuse(const ledger::PaymentBatch& batch, const Error& error);
  Result<ledger::ClaimOptions> claim_options();
  Method choose(std::size_t payments, std::size_t charges, const evm::Fees& fees) const;
  bool too_dear(const evm::Fees& fees) const;
  std::string lease_name() const;
  std::string schedule_name() const;
  LedgerTime now() const { return store_->now(); }

  std::shared_ptr<ledger::Store> store_;
  Chain& chain_;
  evm::Signer& signer_;
  PayerOptions options_;
  ledger::PaymentBatches batches_;
  ledger::PayoutBook book_;
  ledger::EscrowReservations reservations_;
  Errands errands_;
  std::optional<ledger::Lease> lease_;
  std::map<std::string, LedgerTime> refused_;  // batches the chain refused, and when
  std::map<std::string, LedgerTime> reopened_;
  bool run_now_ = false;
  bool batches_turn_ = false;  // the last thing that was done is an errand
};

}  // namespace farmesh::payout
