// Prepaid credits: what an account has, what is reserved for requests that run, what was charged.
//
// Reserve before the first token, settle when the session ends; a balance never goes below what is
// reserved, and that never below zero. Every movement has an entry with a reference, and a
// reference moves money once, however often it is tried. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ledger/store.hpp"

namespace farmesh::ledger {

struct CreditAccount {
  std::string account;
  Far balance;   // reserved part included
  Far reserved;  // for requests that run
  Far leaving;   // asked back from the escrow: can still be charged, but is no credit
  Far unreserved() const noexcept { return *balance.minus(reserved); }
  /// What may be promised to a request.
  Far available() const noexcept {
    return leaving < unreserved() ? *unreserved().minus(leaving) : Far();
  }
};

class Credits {
 public:
  explicit Credits(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// Zero for an account that never had any.
  Result<CreditAccount> account(const std::string& account);

  /// Raises the balance. `reference` names the movement, such as a transaction and its log index.
  /// Fails with invalid_argument, amount_invalid, ledger_conflict (reference known for another
  /// amount or account).
  Result<CreditAccount> deposit(const std::string& account, Far amount,
                                const std::string& reference);
  /// Lowers it. Fails as deposit() does, or with insufficient_credit.
  Result<CreditAccount> withdraw(const std::string& account, Far amount,
                                 const std::string& reference);

  /// What the account's user wants back from the escrow, now; replaces what it was.
  Result<void> set_leaving(const std::string& account, Far amount);

  /// Sets `amount` aside for a request; one with a reservation on chain has it aside already. Fails
  /// with insufficient_credit, or ledger_conflict when this request has reserved otherwise, was
  /// settled, or is not open on chain yet.
  Result<CreditAccount> reserve(const std::string& account, const std::string& request_id,
                                Far amount);
  /// Gives a reservation back whose request never became a session. Once settled or released it
  /// stays so. Fails with not_found.
  Result<void> release(const std::string& request_id);

 private:
  Result<CreditAccount> move(const std::string& account, Far amount, const std::string& kind,
                             const std::string& reference);

  std::shared_ptr<Store> store_;
};

// Inside a transaction of another part of the ledger:

/// What may be set aside: a promise on credit takes nothing that its user has asked back; what he
/// signs for on chain may come from there, because it leaves his account before he can.
enum class Source : std::uint8_t { credit, escrow };

/// As Credits::reserve() and release() do.
Result<CreditAccount> reserve_credit(Database& db, const std::string& account,
                                     const std::string& request_id, Far amount, Source source,
                                     LedgerTime now);
Result<void> release_credit(Database& db, const std::string& request_id, LedgerTime now);
/// Gives back what a request was charged. Twice is once.
Result<void> refund_credit(Database& db, const std::string& account, Far amount,
                           const std::string& request_id, LedgerTime now);

/// Inside the transaction that ends a session: charges the reservation of its request, if there is
/// one, at most what the account has, and on chain no more than was signed for; gives the rest
/// back. Returns the part of `cost` that could not be charged.
Result<Far> settle_reservation(Database& db, const std::string& request_id, Far cost,
                               LedgerTime now);

}  // namespace farmesh::ledger
