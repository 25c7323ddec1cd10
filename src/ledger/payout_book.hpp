// What a payer has to remember between two steps: who sends, what was signed, what users owe.
//
// Several payers may share a ledger. One of them holds the lease of its sender's address; what it
// writes is refused once another took the lease over, so that two never use one nonce, whatever
// their clocks say. Transactions are written down before they are sent. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/store.hpp"

namespace farmesh::ledger {

struct Lease {
  std::string name;  // what it is for: a chain and an address
  std::string owner;
  std::int64_t epoch = 0;
};

struct StoredTransaction {
  std::string tx_hash;
  std::string batch_id;
  std::uint64_t chain_id = 0;
  std::string sender;
  std::uint64_t nonce = 0;
  std::vector<std::uint8_t> raw;  // signed, as it is sent
  LedgerTime created_at{};
  std::string operator_wallet;  // whom it pays beside the batch's items; empty: nobody
  Far operator_pay;
};

/// A transaction that is no batch's. Each is good once whatever becomes of it, so the last that was
/// signed for its nonce is all there is to know.
struct StoredErrand {
  std::string what;  // for people
  std::string tx_hash;
  std::uint64_t nonce = 0;
  std::vector<std::uint8_t> raw;
  LedgerTime created_at{};
};

/// What a batch takes from one account of the escrow.
struct UserCharge {
  std::string account;
  Far amount;
  std::string request_key;  // empty: on credit; else of the reservation that it closes
  friend bool operator==(const UserCharge&, const UserCharge&) = default;
};

class PayoutBook {
 public:
  explicit PayoutBook(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// Takes or renews the lease; nothing while another holds it.
  Result<std::optional<Lease>> acquire(const std::string& name, const std::string& owner,
                                       std::chrono::milliseconds duration);
  /// Lets the next one have it at once. Somebody else's stays.
  Result<void> yield(const Lease& lease);

  /// Writes a signed transaction down, with what it charges, and marks its batch as submitted by
  /// it. Twice is once. Fails with ledger_conflict when the lease was lost or the batch is
  /// confirmed, or with not_found.
  Result<void> record(const Lease& lease, const StoredTransaction& transaction,
                      const std::vector<UserCharge>& charges, Far fee);
  /// Of one batch, oldest first.
  Result<std::vector<StoredTransaction>> transactions(const std::string& batch_id);
  /// The highest nonce of `sender` in transactions of batches that are submitted, but for one
  /// batch's.
  Result<std::optional<std::uint64_t>> highest_nonce(std::uint64_t chain_id,
                                                     const std::string& sender,
                                                     const std::string& but_batch_id);

  /// Writes down an errand of the lease's sender before it is sent; fails as record() does.
  Result<void> set_errand(const Lease& lease, const StoredErrand& errand);
  Result<std::optional<StoredErrand>> errand(const Lease& lease);
  /// It is done, or can be no more. Another one's stays.
  Result<void> end_errand(const Lease& lease, const std::string& tx_hash);

  /// What the batch charged, as the chain has it: replaces what was planned.
  Result<void> set_charges(const std::string& batch_id, const std::vector<UserCharge>& charges,
                           Far fee);
  Result<std::vector<UserCharge>> charges(const std::string& batch_id);

  /// What accounts were charged here on credit and no batch has charged on chain yet; largest
  /// first. What `but_batch_id` charges does not count.
  Result<std::vector<UserCharge>> debts(const std::string& but_batch_id = {});
  /// The platform's fees of ended sessions that no batch but this one has taken.
  Result<Far> fees_due(const std::string& but_batch_id = {});

  /// What users owe on chain, and no node and no fee has a claim to: the operator's own shares, and
  /// what he advanced. As if `but_batch_id` had taken nothing.
  Result<Far> operator_due(const std::string& but_batch_id);
  /// Of all confirmed batches.
  Result<Far> operator_paid();

  /// Why all payers of this ledger pause; nothing when they do not.
  Result<std::optional<std::string>> paused();
  Result<void> pause(const std::string& why);
  Result<void> resume();

  /// When the last run of a schedule ended.
  Result<std::optional<LedgerTime>> last_run(const std::string& name);
  Result<void> set_last_run(const std::string& name, LedgerTime when);

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace farmesh::ledger
