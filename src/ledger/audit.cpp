#include "ledger/audit.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "ledger/checks.hpp"
#include "ledger/receipts.hpp"
#include "ledger/session_rows.hpp"
#include "ledger/store.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::size_t kMaxFindings = 10'000;
constexpr std::int64_t kPage = 500;

class Findings {
 public:
  explicit Findings(AuditReport& report) : report_(report) {}

  void add(std::string table, std::string row, std::string what) {
    if (report_.findings.size() < kMaxFindings) {
      report_.findings.push_back({std::move(table), std::move(row), std::move(what)});
    }
  }
  void expect(Far is, Far should, const char* table, const std::string& row, const char* field) {
    if (is == should) return;
    add(table, row,
        std::string(field) + " is " + is.to_string() + " and should be " + should.to_string());
  }
  void expect(std::int64_t is, std::int64_t should, const char* table, const std::string& row,
              const char* field) {
    if (is == should) return;
    add(table, row,
        std::string(field) + " is " + std::to_string(is) + " and should be " +
            std::to_string(should));
  }

 private:
  AuditReport& report_;
};

void check_contributions(const SessionRecord& session, const Settlement& settlement,
                         Findings& findings) {
  constexpr const char* kTable = "far_session_contributions";
  std::size_t expected = 0;
  Far operator_pay;
  std::uint32_t operator_tokens = 0;
  for (const Payout& payout : settlement.payouts) {
    if (payout.node_id.empty()) {
      operator_pay = payout.payment;
      operator_tokens = payout.tokens;
      continue;
    }
    ++expected;
    const std::string row = session.session_id + " " + payout.node_id;
    const auto found =
        std::ranges::find(session.contributions, payout.node_id, &Contribution::node_id);
    if (found == session.contributions.end()) {
      findings.add(kTable, row, "is missing");
      continue;
    }
    findings.expect(found->payment, payout.payment, kTable, row, "payment_far");
    findings.expect(found->tokens, payout.tokens, kTable, row, "tokens_contributed");
    findings.expect(found->prompt_tokens, payout.prompt_tokens, kTable, row,
                    "prompt_tokens_contributed");
    if (found->layers != payout.layers) findings.add(kTable, row, "layers_processed differs");
  }
  findings.expect(static_cast<std::int64_t>(session.contributions.size()),
                  static_cast<std::int64_t>(expected), kTable, session.session_id,
                  "number of contributions");
  constexpr const char* kSessions = "far_mesh_sessions";
  findings.expect(session.operator_pay, operator_pay, kSessions, session.session_id,
                  "operator_far");
  findings.expect(session.operator_tokens, operator_tokens, kSessions, session.session_id,
                  "operator_tokens");
}

Result<void> check_session(Database& db, SessionRecord session, Findings& findings,
                           AuditReport& report) {
  auto contributions = load_contributions(db, session.session_id);
  if (!contributions) return contributions.error();
  session.contributions = std::move(*contributions);
  report.contributions += session.contributions.size();
  if (session.status == SessionStatus::active) {
    findings.expect(static_cast<std::int64_t>(session.contributions.size()), 0,
                    "far_session_contributions", session.session_id,
                    "number of contributions of a live session");
    return {};
  }
  const auto work = db.query_one<std::string>(
      "SELECT work_log FROM far_session_work WHERE session_id = ?1", {session.session_id});
  if (!work) return work.error();
  if (!*work) return {};  // a session of an earlier edition: nothing to compute from
  const Result<WorkLog> log = decode_work(std::get<0>(**work));
  if (log) {
    check_shares(session, *log, report);
  } else {
    findings.add("far_session_work", session.session_id, log.error().detail);
  }
  return {};
}

/// Of an ended session: the log pays, so each receipt that says otherwise has its dispute.
Result<void> check_disputes(Database& db, const std::string& session_id,
                            const std::vector<StoredReceipt>& receipts, Findings& findings) {
  const Result<WorkLog> log = load_work(db, session_id);
  if (!log) return log.error();
  std::map<std::pair<NodeId, Span>, const StoredReceipt*> newest;
  for (const StoredReceipt& stored : receipts) {
    const wire::Receipt& receipt = stored.receipt.receipt;
    const StoredReceipt*& last = newest[{receipt.node_id, receipt.span}];
    if (last == nullptr || receipt.sequence > last->receipt.receipt.sequence) last = &stored;
  }
  for (const auto& [key, stored] : newest) {
    const wire::Receipt& receipt = stored->receipt.receipt;
    if (!disagrees(receipt, stored->driver_key.has_value(), *log)) continue;
    const SqlLayers layers = to_sql(receipt.span);
    const auto dispute = db.query_one<std::int64_t>(
        "SELECT id FROM far_disputes WHERE session_id = ?1 AND node_id = ?2 AND layers_start = ?3 "
        "AND layers_end = ?4 AND claimed_tokens = ?5",
        {session_id, to_string(receipt.node_id), layers.start, layers.end,
         static_cast<std::int64_t>(receipt.counts.decode)});
    if (!dispute) return dispute.error();
    if (*dispute) continue;
    findings.add("far_disputes", session_id + " " + to_string(receipt.node_id),
                 "is missing: its receipt and the log disagree");
  }
  return {};
}

Result<void> check_receipts(Database& db, const std::string& session_id, bool ended,
                            Findings& findings, AuditReport& report) {
  const auto receipts = load_receipts(db, session_id);
  if (!receipts) {
    if (receipts.error().code != Errc::ledger_damaged) return receipts.error();
    findings.add("far_receipts", session_id, receipts.error().detail);
    return {};
  }
  report.receipts += receipts->size();
  for (const StoredReceipt& stored : *receipts) check_receipt(stored, session_id, report);
  return ended ? check_disputes(db, session_id, *receipts, findings) : Result<void>();
}

/// Sessions after `after`, at most a page; moves `after` on. False when there are no more.
Result<bool> check_page(Database& db, std::string& after, Findings& findings, AuditReport& report) {
  const auto ids = db.query<std::string>(
      "SELECT id FROM far_mesh_sessions WHERE id > ?1 ORDER BY id LIMIT ?2", {after, kPage});
  if (!ids) return ids.error();
  for (const auto& [id] : *ids) {
    auto session = load_session(db, id, /*lock=*/true);
    if (!session) {
      if (session.error().code != Errc::ledger_damaged) return session.error();
      findings.add("far_mesh_sessions", id, session.error().detail);
      continue;
    }
    if (!*session) continue;
    const bool ended = (*session)->status != SessionStatus::active;
    Result<void> step = check_session(db, std::move(**session), findings, report);
    if (step) step = check_receipts(db, id, ended, findings, report);
    if (!step && step.error().code != Errc::ledger_damaged) return step.error();
    if (!step) findings.add("far_mesh_sessions", id, step.error().detail);
    ++report.sessions;
  }
  if (!ids->empty()) after = std::get<0>(ids->back());
  return static_cast<std::int64_t>(ids->size()) == kPage;
}

Result<void> check_nodes(Database& db, Findings& findings) {
  const auto rows = db.query<std::string, Far, std::int64_t, std::int64_t, Far, std::int64_t,
                             std::int64_t>(
      "SELECT n.node_id, {n.total_earned_far}, n.total_tokens_served, n.total_sessions_served, "
      "coalesce(sum({c.payment_far}), 0), coalesce(sum(c.tokens_contributed), 0), count(c.id) "
      "FROM far_nodes n LEFT JOIN far_session_contributions c ON c.node_id = n.id GROUP BY n.id");
  if (!rows) return rows.error();
  for (const auto& [node, earned, tokens, sessions, sum_earned, sum_tokens, count] : *rows) {
    findings.expect(earned, sum_earned, "far_nodes", node, "total_earned_far");
    findings.expect(tokens, sum_tokens, "far_nodes", node, "total_tokens_served");
    findings.expect(sessions, count, "far_nodes", node, "total_sessions_served");
  }
  return {};
}

Result<void> check_batches(Database& db, Findings& findings) {
  const auto rows = db.query<std::string, std::string, Far, Far>(
      "SELECT i.batch_id, i.wallet_address, {i.amount_far}, coalesce(s.total, 0) "
      "FROM far_payment_items i LEFT JOIN (SELECT batch_id, wallet_address, sum({payment_far}) AS "
      "total FROM far_session_contributions WHERE batch_id IS NOT NULL GROUP BY batch_id, "
      "wallet_address) s ON s.batch_id = i.batch_id AND s.wallet_address = i.wallet_address");
  if (!rows) return rows.error();
  for (const auto& [batch, wallet, amount, sum] : *rows) {
    findings.expect(amount, sum, "far_payment_items", batch + " " + wallet, "amount_far");
  }
  const auto totals = db.query<std::string, Far, Far>(
      "SELECT b.id, {b.total_amount_far}, coalesce((SELECT sum({i.amount_far}) FROM "
      "far_payment_items i WHERE i.paying_batch_id = b.id), 0) FROM far_payment_batches b");
  if (!totals) return totals.error();
  for (const auto& [batch, total, sum] : *totals) {
    findings.expect(total, sum, "far_payment_batches", batch, "total_amount_far");
  }
  const auto loose = db.query<std::int64_t>(
      "SELECT c.id FROM far_session_contributions c WHERE c.batch_id IS NOT NULL AND NOT EXISTS "
      "(SELECT 1 FROM far_payment_items i WHERE i.batch_id = c.batch_id AND i.wallet_address = "
      "c.wallet_address AND (i.status = 'paid') = (c.paid_at IS NOT NULL)) ORDER BY c.id LIMIT "
      "1000");
  if (!loose) return loose.error();
  for (const auto& [id] : *loose) {
    findings.add("far_session_contributions", std::to_string(id),
                 "and its batch disagree about whether it is paid");
  }
  return {};
}

Result<void> check_credits(Database& db, Findings& findings) {
  const auto rows = db.query<std::string, Far, Far, Far, Far>(
      "SELECT a.account, {a.balance_far}, {a.reserved_far}, coalesce((SELECT "
      "sum({e.amount_far}) FROM far_credit_entries e WHERE e.account = a.account), 0), "
      "coalesce((SELECT sum({r.amount_far}) FROM far_credit_reservations r WHERE "
      "r.account = a.account AND r.status = 'open'), 0) FROM far_credit_accounts a");
  if (!rows) return rows.error();
  for (const auto& [account, balance, reserved, entries, open] : *rows) {
    findings.expect(balance, entries, "far_credit_accounts", account, "balance_far");
    findings.expect(reserved, open, "far_credit_accounts", account, "reserved_far");
  }
  const auto charges = db.query<std::string, Far, Far, Far>(
      "SELECT r.request_id, {r.charged_far}, {s.total_cost_far}, {s.uncollected_far} FROM "
      "far_credit_reservations r JOIN far_mesh_sessions s ON s.request_id = r.request_id "
      "WHERE r.status = 'settled'");
  if (!charges) return charges.error();
  for (const auto& [request, charged, cost, uncollected] : *charges) {
    findings.expect(charged, cost.minus(uncollected).value_or(Far()), "far_credit_reservations",
                    request, "charged_far");
  }
  return {};
}

}  // namespace

void check_shares(const SessionRecord& session, const WorkLog& log, AuditReport& report) {
  constexpr const char* kTable = "far_mesh_sessions";
  Findings findings(report);
  const Result<Settlement> settlement = settle(log, prices_of(session));
  if (!settlement) {
    findings.add("far_session_work", session.session_id, settlement.error().detail);
    return;
  }
  findings.expect(session.total_cost, settlement->cost, kTable, session.session_id,
                  "total_cost_far");
  findings.expect(session.platform_fee, settlement->fee, kTable, session.session_id,
                  "platform_fee_far");
  findings.expect(session.tokens_generated, settlement->tokens, kTable, session.session_id,
                  "tokens_generated");
  findings.expect(session.prompt_tokens, settlement->prompt_tokens, kTable, session.session_id,
                  "prompt_tokens");
  check_contributions(session, *settlement, findings);
}

void check_receipt(const StoredReceipt& stored, const std::string& session_id,
                   AuditReport& report) {
  Findings findings(report);
  const std::string row = std::to_string(stored.id);
  const auto checked = CheckedReceipt::check(stored.receipt);
  if (!checked) findings.add("far_receipts", row, checked.error().detail);
  if (uuid_text(stored.receipt.receipt.account) != session_id) {
    findings.add("far_receipts", row, "is of another session");
  }
  if (!stored.driver_key) return;
  const auto body = wire::encode(stored.receipt.receipt);
  if (!identity::verify(*stored.driver_key, wire::kCountersignDomain,
                        std::as_bytes(std::span(body)), stored.driver_signature)) {
    findings.add("far_receipts", row, "its driver did not countersign it");
  }
}

Result<AuditReport> audit(Store& store) {
  AuditReport report;
  Findings findings(report);
  std::string after = "00000000-0000-0000-0000-000000000000";
  for (bool more = true; more;) {
    const AuditReport before = report;
    const std::string from = after;
    const auto page = store.transact([&](Database& db) {
      report = before;  // an attempt that was disturbed counts for nothing
      after = from;
      return check_page(db, after, findings, report);
    });
    if (!page) return page.error();
    more = *page;
  }
  const AuditReport before = report;
  const auto sums = store.transact([&](Database& db) -> Result<void> {
    report = before;
    Result<void> step = check_nodes(db, findings);
    if (step) step = check_batches(db, findings);
    if (step) step = check_credits(db, findings);
    if (!step) return step;
    const auto row = db.query_one<Far, Far>(
        "SELECT coalesce(sum({payment_far}), 0), coalesce(sum(CASE WHEN paid_at IS NOT NULL THEN "
        "{payment_far} ELSE 0 END), 0) FROM far_session_contributions");
    if (!row) return row.error();
    std::tie(report.earned, report.paid) = **row;
    return {};
  });
  if (!sums) return sums.error();
  return report;
}

}  // namespace farmesh::ledger
