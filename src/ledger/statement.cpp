#include "ledger/statement.hpp"

#include "ledger/checks.hpp"
#include "ledger/session_rows.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::int64_t kPage = 100;
constexpr std::size_t kMaxWallet = 42;

struct Place {  // of the last line read
  std::int64_t contribution = 0;
  std::string session_id;
};

Result<std::vector<StatementLine>> read_page(Database& db, const std::string& wallet,
                                             LedgerTime since, Place& after) {
  const auto rows = db.query<std::int64_t, std::string>(
      "SELECT c.id, c.session_id FROM far_session_contributions c JOIN far_nodes n ON "
      "n.id = c.node_id WHERE coalesce(c.wallet_address, n.wallet_address) = ?1 AND "
      "c.created_at >= ?2 AND c.id > ?3 ORDER BY c.id LIMIT ?4",
      {wallet, since, after.contribution, kPage});
  if (!rows) return rows.error();
  std::vector<StatementLine> lines;
  for (const auto& [id, session_id] : *rows) {
    after.contribution = id;
    // Two nodes of one wallet in one session are one line; their rows stand side by side.
    if (session_id == after.session_id) continue;
    after.session_id = session_id;
    auto session = load_session(db, session_id, /*lock=*/false);
    if (!session) return session.error();
    if (!*session) return Error{Errc::ledger_damaged, "a contribution without its session"};
    StatementLine& line = lines.emplace_back();
    line.session = std::move(**session);
    auto contributions = load_contributions(db, session_id);
    if (!contributions) return contributions.error();
    line.session.contributions = std::move(*contributions);
    auto log = load_work(db, session_id);
    if (!log) return log.error();
    line.log = std::move(*log);
    auto receipts = load_receipts(db, session_id);
    if (!receipts) return receipts.error();
    line.receipts = std::move(*receipts);
  }
  return lines;
}

}  // namespace

Result<void> read_statement(Store& store, const std::string& wallet, LedgerTime since,
                            const std::function<bool(const StatementLine&)>& take) {
  const Result<void> good = check_text(wallet, kMaxWallet, "wallet");
  if (!good) return good;
  for (Place after;;) {
    const Place from = after;
    const auto lines = store.transact([&](Database& db) {
      after = from;
      return read_page(db, wallet, since, after);
    });
    if (!lines) return lines.error();
    if (after.contribution == from.contribution) return {};
    for (const StatementLine& line : *lines) {
      if (!take(line)) return {};
    }
  }
}

}  // namespace farmesh::ledger
