// Batches of unpaid work on their way to the chain.
//
// Takes contributions that nobody has claimed, gives batches of one amount a wallet. States:
//   pending ── submit ──► submitted ── confirm ──► confirmed
//                          ▲  │ fail     ◄── reopen ──┘
//                  submit  │  ▼
//                          failed
// A contribution joins one batch, for ever. An amount that its wallet cannot receive is held, and
// once released carried by the next batch's transaction. Every call may be repeated: doing twice
// is doing once. Several payers may share a ledger: no contribution is ever in two batches.
// Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/store.hpp"

namespace farmesh::ledger {

enum class BatchStatus : std::uint8_t { pending, submitted, confirmed, failed };
std::string_view name(BatchStatus status) noexcept;

struct PaymentItem {
  std::string origin_batch;  // whose contributions it pays; another's when it was held before
  std::string wallet;
  Far amount;
};

struct PaymentBatch {
  std::string id;  // a UUID
  BatchStatus status = BatchStatus::pending;
  std::vector<PaymentItem> items;  // by wallet; held ones are not among them
  Far total;
  std::string tx_hash;
  std::string error_message;
  LedgerTime created_at{};
};

struct ClaimOptions {
  Far minimum = Far::from_units(10 * Far::kUnitsPerFar);  // a wallet's; less waits
  LedgerTime payable_before{};                            // work that ended later waits
  std::size_t max_wallets = 500;
  std::optional<Far> max_total;           // wallets that would pass it wait
  std::optional<LedgerTime> dust_before;  // work this old is paid below the minimum too
  bool even_empty = false;  // a batch though nobody's work is due: for what it charges
};

/// What claim() would take now.
struct Payable {
  std::string wallet;
  Far amount;
};

/// A batch that was confirmed, as the chain has to keep it.
struct ConfirmedBatch {
  std::string id;
  std::string tx_hash;
  std::uint64_t block_number = 0;
};

struct Confirmation {
  std::string tx_hash;
  std::uint64_t block_number = 0;
  std::uint64_t gas_used = 0;
  std::string gas_price_gwei;  // a decimal with at most 9 decimals
};

struct HeldItem {
  std::string batch_id;
  std::string wallet;
  Far amount;
  std::string reason;
};

/// What a wallet gets for the work it has in one batch.
struct WalletPayment {
  std::string origin_batch;  // of the contributions
  std::string paying_batch;  // whose transaction carries it: another's when it was held before
  Far amount;
  std::string status;   // pending, held or paid
  std::string tx_hash;  // once it is paid
  std::optional<std::uint64_t> block_number;
};

class PaymentBatches {
 public:
  explicit PaymentBatches(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// A new batch of what is payable, largest amounts first; nothing when there is nothing.
  Result<std::optional<PaymentBatch>> claim(const ClaimOptions& options);
  /// What claim() would take, without what was released; changes nothing.
  Result<std::vector<Payable>> payable(const ClaimOptions& options);

  /// Fails with not_found.
  Result<PaymentBatch> batch(const std::string& id);
  /// All that are not confirmed, oldest first: what a payer looks at when it starts.
  Result<std::vector<PaymentBatch>> open_batches();

  /// A transaction for it was, or is about to be, sent; another hash replaces the one before. Fails
  /// with not_found, or ledger_conflict once the batch is confirmed.
  Result<void> submit(const std::string& id, const std::string& tx_hash);
  /// It is deep enough in the chain: its contributions are paid. Fails with not_found, or
  /// ledger_conflict when it was never submitted, or was confirmed by another transaction.
  Result<void> confirm(const std::string& id, const Confirmation& confirmation);
  /// The chain has forgotten its transaction: it is submitted again, and its contributions unpaid.
  /// Fails with not_found, or ledger_conflict when it is neither confirmed nor submitted.
  Result<void> reopen(const std::string& id);
  /// Confirmed since `since`, oldest first.
  Result<std::vector<ConfirmedBatch>> confirmed_since(LedgerTime since);
  /// The sum of all batches that were made since then and have not failed.
  Result<Far> claimed_since(LedgerTime since);
  /// It will not happen as submitted. Fails as submit() does.
  Result<void> fail(const std::string& id, const std::string& why);

  /// Takes one wallet's amount out of a batch that is pending or failed. Fails with not_found, or
  /// ledger_conflict in another state.
  Result<void> hold(const std::string& id, const std::string& wallet, const std::string& reason);
  Result<std::vector<HeldItem>> held();
  /// Oldest first.
  Result<std::vector<WalletPayment>> of_wallet(const std::string& wallet);
  /// Lets the next claim carry it. Fails with not_found when it is not held.
  Result<void> release(const std::string& batch_id, const std::string& wallet);

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace farmesh::ledger
