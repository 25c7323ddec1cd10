// What a provider may show to anyone: each session that a wallet earned in, with the step log and
// receipts its share follows from, and the transaction that paid it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ledger/receipts.hpp"
#include "ledger/store.hpp"

namespace farmesh::ledger {

struct StatementLine {
  SessionRecord session;  // with all contributions
  WorkLog log;
  std::vector<StoredReceipt> receipts;  // of every node of the session
};

/// Calls `take` with each session that `wallet` contributed to since `since`, oldest first, until
/// it returns false. Reads in pages: the ledger is free in between.
Result<void> read_statement(Store& store, const std::string& wallet, LedgerTime since,
                            const std::function<bool(const StatementLine&)>& take);

}  // namespace farmesh::ledger
