// Rows of sessions and contributions, inside a transaction: what the calls of ContributionLedger
// are made of.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <farmesh/ledger.hpp>

#include "ledger/database.hpp"
#include "ledger/work_log.hpp"

namespace farmesh::ledger {

/// Why close_abandoned() ended a session.
inline constexpr const char* kAbandonedMessage = "the coordinator ended before the session did";

/// A node as contributions need it.
struct NodeRow {
  std::string id;  // far_nodes.id
  std::string wallet;
};

/// What a transaction adds to nodes' totals: added at its end and in one order, so that two
/// coordinators with the same nodes never wait for each other in a circle.
class NodeTotals {
 public:
  /// The row of `node_id`; made when the node has served without having registered.
  Result<NodeRow> node(Database& db, const std::string& node_id, LedgerTime now);
  void add(const NodeRow& node, std::uint32_t tokens, Far payment);
  Result<void> write(Database& db, LedgerTime now);

 private:
  struct Sum {
    std::int64_t sessions = 0;
    std::int64_t tokens = 0;
    Far earned;
  };
  std::map<std::string, NodeRow> nodes_;  // by node id
  std::map<std::string, Sum> sums_;       // by far_nodes.id
};

/// The session's row without contributions; nothing when there is none. `lock` keeps others from
/// changing it until the transaction ends.
Result<std::optional<SessionRecord>> load_session(Database& db, const std::string& session_id,
                                                  bool lock);
Result<std::vector<Contribution>> load_contributions(Database& db, const std::string& session_id);
/// The last log that was written; an empty one when there is none.
Result<WorkLog> load_work(Database& db, const std::string& session_id);

Result<void> write_work(Database& db, const std::string& session_id, const WorkLog& log,
                        LedgerTime now);

/// The outcome's session, ended. The outer Result is the database's, the inner one the session's.
Result<Result<SessionRecord>> finish_session(Database& db, const SessionOutcome& outcome,
                                             LedgerTime now, NodeTotals& totals);

Prices prices_of(const SessionRecord& session);

}  // namespace farmesh::ledger
