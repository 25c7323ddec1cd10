// Prepaid credits: what an account has, what is reserved for requests that run, what was charged.
//
// Reserve before the first token, settle when the session ends; a balance never goes below what is
// reserved, and that never below zero. Every movement has an entry with a reference, and a
// reference moves money once, however often it is tried. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "ledger/store.hpp"

namespace farmesh::ledger {

struct CreditAccount {
  std::string account;
  Far balance;   // reserved part included
  Far reserved;  // for requests that run
  Far available() const noexcept { return *balance.minus(reserved); }
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

  /// Sets `amount` aside for a request. Fails with insufficient_credit, or ledger_conflict when
  /// this request has reserved otherwise or was settled.
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

/// Inside the transaction that ends a session: charges the reservation of its request, if there is
/// one, at most what the account has, and gives the rest back. Returns the part of `cost` that
/// could not be charged.
Result<Far> settle_reservation(Database& db, const std::string& request_id, Far cost,
                               LedgerTime now);

}  // namespace farmesh::ledger
