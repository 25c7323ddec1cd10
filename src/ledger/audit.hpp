// Computes every sum of the ledger again, and tells every difference.
#pragma once

#include <farmesh/ledger.hpp>

namespace farmesh::ledger {

class Store;

/// Shares from step logs, sessions' costs from shares, nodes' totals from contributions, batches
/// from contributions, balances from entries, and every receipt's signature. Reads in pages, each
/// a transaction, so sessions may end meanwhile.
Result<AuditReport> audit(Store& store);

}  // namespace farmesh::ledger
