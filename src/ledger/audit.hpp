// Computes every sum of the ledger again, and tells every difference.
#pragma once

#include <farmesh/ledger.hpp>

#include "ledger/receipts.hpp"

namespace farmesh::ledger {

class Store;

/// Shares from step logs, sessions' costs from shares, nodes' totals from contributions, batches
/// from contributions, balances from entries, and every receipt's signature. Reads in pages, each
/// a transaction, so sessions may end meanwhile.
Result<AuditReport> audit(Store& store);

// The same of one session that anybody has shown, without its ledger:

/// Cost and shares of an ended session, from its step log. Adds each difference to `report`.
void check_shares(const SessionRecord& session, const WorkLog& log, AuditReport& report);
/// That the node signed it for this session, and the driver where it says so.
void check_receipt(const StoredReceipt& stored, const std::string& session_id, AuditReport& report);

}  // namespace farmesh::ledger
