// The open database that all parts of the ledger share: one connection, transactions, the clock.
//
// Thread-safe: a transaction holds the connection, others wait. Parts of the ledger (sessions,
// receipts, nodes, payments, accounts) are views over one Store and keep it alive.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include <farmesh/ledger.hpp>

#include "ledger/database.hpp"

namespace farmesh::ledger {

class Store {
 public:
  /// Opens and migrates. Fails with config_invalid, ledger_unavailable, ledger_newer.
  static Result<std::shared_ptr<Store>> open(LedgerOptions options);

  /// Runs `work(Database&)` in a transaction and commits when it gives a value. A transaction that
  /// another one disturbed, or whose connection was lost, runs again from its beginning, a few
  /// times; so `work` must do the same again, and start from fresh state. What it gives when the
  /// answer to a commit was lost must be right if that commit took effect.
  template <class Work>
  auto transact(Work work) -> std::invoke_result_t<Work, Database&>;

  LedgerTime now() const { return options_.clock(); }
  const LedgerOptions& options() const noexcept { return options_; }

 private:
  Store(LedgerOptions options, std::unique_ptr<Database> database)
      : options_(std::move(options)), database_(std::move(database)) {}

  static constexpr int kAttempts = 8;
  static bool may_try_again(const Error& error) noexcept {
    return error.code == Errc::busy || error.code == Errc::connection_lost;
  }
  /// Waits longer each time, and never exactly as long as a rival.
  static void pause_before(int attempt);
  /// Errors of the database as the ledger's callers know them.
  static Error public_error(Error error);

  LedgerOptions options_;
  std::mutex mutex_;
  std::unique_ptr<Database> database_;
};

template <class Work>
auto Store::transact(Work work) -> std::invoke_result_t<Work, Database&> {
  const std::lock_guard lock(mutex_);
  for (int attempt = 1;; ++attempt) {
    Result<void> step = database_->ensure_connected();
    if (step) step = database_->begin();
    if (step) {
      auto outcome = work(*database_);
      if (!outcome) {
        step = outcome.error();
      } else {
        step = database_->commit();
        if (step) return outcome;
      }
      database_->rollback();
    }
    if (!may_try_again(step.error()) || attempt == kAttempts) return public_error(step.error());
    pause_before(attempt);
  }
}

}  // namespace farmesh::ledger
