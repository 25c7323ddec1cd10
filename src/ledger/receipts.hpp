// Receipts in the ledger: checked, kept for ever, compared with the driver's log.
//
// Takes what nodes sign (wire/receipt.hpp), gives append-only rows of far_receipts, and disputes
// where a receipt claims other than what the driver logged.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "identity/node_key.hpp"
#include "ledger/store.hpp"
#include "wire/receipt.hpp"

namespace farmesh::ledger {

/// A receipt whose signature was checked: nothing else makes one.
class CheckedReceipt {
 public:
  /// Fails with receipt_invalid when the key is not the node's, or did not sign these bytes.
  static Result<CheckedReceipt> check(const wire::SignedReceipt& receipt);
  /// The same with the driver's agreement, if it is there.
  static Result<CheckedReceipt> check(const wire::JudgedReceipt& receipt);

  /// Adds the driver's agreement.
  void countersign(const identity::NodeKey& driver);

  const wire::SignedReceipt& signed_receipt() const noexcept { return signed_; }
  const wire::Receipt& receipt() const noexcept { return signed_.receipt; }
  bool countersigned() const noexcept { return driver_key_.has_value(); }

 private:
  friend class Receipts;
  explicit CheckedReceipt(const wire::SignedReceipt& receipt) : signed_(receipt) {}

  wire::SignedReceipt signed_;
  std::optional<wire::KeyBytes> driver_key_;
  wire::SignatureBytes driver_signature_{};
};

/// The same with its bytes signed by `key`.
wire::SignedReceipt sign(const wire::Receipt& receipt, const identity::NodeKey& key);

/// A receipt as it is stored.
struct StoredReceipt {
  std::int64_t id = 0;
  wire::SignedReceipt receipt;
  std::optional<wire::KeyBytes> driver_key;
  wire::SignatureBytes driver_signature{};
  LedgerTime received_at{};
};

/// A session whose coordinator did not live to hear what its nodes say of it.
struct UnreceiptedSession {
  std::string session_id;
  std::string model_id;
  std::uint32_t repeated_tokens = 0;  // these two as in SessionStart
  bool prompt_charged = false;
  WorkLog log;
};

class Receipts {
 public:
  explicit Receipts(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// Records all of them in one transaction; the answers are in order. Recording twice is
  /// recording once. An element fails by itself with not_found (session), ledger_conflict (the
  /// same sequence with other content) or receipt_invalid (counts below an earlier receipt's). A
  /// receipt of a session that has ended is compared with its log at once.
  Result<std::vector<Result<void>>> record(std::span<const CheckedReceipt> receipts);

  /// Sessions that close_abandoned() ended for `coordinator`, begun since `since`, in which some
  /// node's newest receipt does not say what the log says, or is not there. Newest first.
  Result<std::vector<UnreceiptedSession>> missing(const std::string& coordinator, LedgerTime since,
                                                  std::size_t limit = 1'000);

  /// Of one session, oldest first. Fails with ledger_damaged when a row is no receipt.
  Result<std::vector<StoredReceipt>> of_session(const std::string& session_id);

 private:
  std::shared_ptr<Store> store_;
};

/// A disagreement about output tokens: a receipt claims more or fewer of them than `log` has for
/// its node and layers, and its driver did not countersign it. One that it did may differ all the
/// same: `log` is cut to what was delivered, and a node that vanished leaves a receipt that is old.
bool disagrees(const wire::Receipt& receipt, bool countersigned, const WorkLog& log);

/// Inside the transaction that ends a session: a dispute for each newest receipt that disagrees.
Result<void> open_disputes_of(Database& db, const std::string& session_id, const WorkLog& log,
                              LedgerTime now);

Result<std::vector<StoredReceipt>> load_receipts(Database& db, const std::string& session_id);

}  // namespace farmesh::ledger
