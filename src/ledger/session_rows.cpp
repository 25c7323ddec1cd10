#include "ledger/session_rows.hpp"

#include "base/assert.hpp"
#include "ledger/checks.hpp"
#include "ledger/credits.hpp"
#include "ledger/receipts.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::string_view kSessionColumns =
    "SELECT request_id, user_wallet, model_id, status, error_message, {price_per_token_far}, "
    "{price_per_prompt_token_far}, platform_fee_bps, split_policy, tokens_generated, "
    "prompt_tokens, {total_cost_far}, {platform_fee_far}, {operator_far}, operator_tokens, "
    "{uncollected_far}, started_at, coalesce(completed_at, failed_at) FROM far_mesh_sessions "
    "WHERE id = ?1 ";

std::optional<SessionStatus> status_of(std::string_view text) {
  for (const auto status : {SessionStatus::active, SessionStatus::completed, SessionStatus::failed,
                            SessionStatus::cancelled}) {
    if (name(status) == text) return status;
  }
  return std::nullopt;
}

Result<void> write_end(Database& db, const SessionRecord& session, LedgerTime now) {
  const bool failed = session.status == SessionStatus::failed;
  const Value none = nullptr;
  const auto changed = db.execute(
      "UPDATE far_mesh_sessions SET status = ?2, tokens_generated = ?3, prompt_tokens = ?4, "
      "{total_cost_far} = ?5, {platform_fee_far} = ?6, {operator_far} = ?7, operator_tokens = ?8, "
      "{uncollected_far} = ?9, error_message = ?10, completed_at = ?11, failed_at = ?12, "
      "updated_at = ?13 WHERE id = ?1 AND status = 'active'",
      {session.session_id, name(session.status), session.tokens_generated, session.prompt_tokens,
       session.total_cost, session.platform_fee, session.operator_pay, session.operator_tokens,
       session.uncollected, or_null(session.error_message), failed ? none : Value(now),
       failed ? Value(now) : none, now});
  if (!changed) return changed.error();
  if (*changed != 1) return Error{Errc::ledger_damaged, "a locked session changed"};
  return {};
}

Result<void> write_contributions(Database& db, SessionRecord& session, const Settlement& settlement,
                                 LedgerTime now, NodeTotals& totals) {
  for (const Payout& payout : settlement.payouts) {
    if (payout.node_id.empty()) {
      session.operator_pay = payout.payment;
      session.operator_tokens = payout.tokens;
      continue;
    }
    const Result<NodeRow> node = totals.node(db, payout.node_id, now);
    if (!node) return node.error();
    const auto written = db.execute(
        "INSERT INTO far_session_contributions (session_id, node_id, tokens_contributed, "
        "layers_processed, {payment_far}, created_at, wallet_address, prompt_tokens_contributed) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        {session.session_id, node->id, payout.tokens, LayerList(payout.layers), payout.payment, now,
         or_null(node->wallet), payout.prompt_tokens});
    if (!written) return written.error();
    totals.add(*node, payout.tokens, payout.payment);
    session.contributions.push_back({payout.node_id, node->wallet, payout.tokens,
                                     payout.prompt_tokens, payout.layers, payout.payment});
  }
  return {};
}

// The second time: the same end is the same answer.
Result<Result<SessionRecord>> ended_before(Database& db, SessionRecord session,
                                           const SessionOutcome& outcome) {
  const Result<WorkLog> log = load_work(db, session.session_id);
  if (!log) return log.error();
  if (session.status != outcome.status || *log != outcome.log) {
    return Result<SessionRecord>(Errc::ledger_conflict, "the session has ended otherwise");
  }
  auto contributions = load_contributions(db, session.session_id);
  if (!contributions) return contributions.error();
  session.contributions = std::move(*contributions);
  return Result<SessionRecord>(std::move(session));
}

}  // namespace

Result<NodeRow> NodeTotals::node(Database& db, const std::string& node_id, LedgerTime now) {
  if (const auto found = nodes_.find(node_id); found != nodes_.end()) return found->second;
  constexpr std::string_view kFind = "SELECT id, wallet_address FROM far_nodes WHERE node_id = ?1";
  auto row = db.query_one<std::string, std::string>(kFind, {node_id});
  if (row && !*row) {
    // Serving was no sign of life that the registry saw: such a node is not listed as active.
    const auto made = db.execute(
        "INSERT INTO far_nodes (id, node_id, wallet_address, is_active, last_seen, registered_at, "
        "updated_at) VALUES (?1, ?2, '', ?3, ?4, ?4, ?4) ON CONFLICT (node_id) DO NOTHING",
        {new_uuid(), node_id, false, now});
    if (!made) return made.error();
    row = db.query_one<std::string, std::string>(kFind, {node_id});
  }
  if (!row) return row.error();
  if (!*row) return Error{Errc::ledger_damaged, "a node's row vanished"};
  return nodes_[node_id] = NodeRow{std::get<0>(**row), std::get<1>(**row)};
}

void NodeTotals::add(const NodeRow& node, std::uint32_t tokens, Far payment) {
  Sum& sum = sums_[node.id];
  ++sum.sessions;
  sum.tokens += tokens;
  // A transaction's sessions cannot earn more than exists; the database's bound comes first.
  sum.earned = sum.earned.plus(payment).value_or(Far::from_units(INT64_MAX));
}

Result<void> NodeTotals::write(Database& db, LedgerTime now) {
  for (const auto& [id, sum] : sums_) {
    const auto written = db.execute(
        "UPDATE far_nodes SET total_sessions_served = total_sessions_served + ?2, "
        "total_tokens_served = total_tokens_served + ?3, "
        "{total_earned_far} = {total_earned_far} + ?4, updated_at = ?5 WHERE id = ?1",
        {id, sum.sessions, sum.tokens, sum.earned, now});
    if (!written) return written.error();
  }
  return {};
}

Result<std::optional<SessionRecord>> load_session(Database& db, const std::string& session_id,
                                                  bool lock) {
  if (!is_uuid(session_id)) return std::optional<SessionRecord>();
  static const std::string kPlain(kSessionColumns);
  static const std::string kLocked = kPlain + "{for update}";
  const auto found =
      db.query_one<std::string, std::string, std::string, std::string, std::string, Far, Far,
                   std::uint32_t, std::string, std::uint32_t, std::uint32_t, Far, Far, Far,
                   std::uint32_t, Far, LedgerTime, std::optional<LedgerTime>>(
          lock ? kLocked : kPlain, {session_id});
  if (!found) return found.error();
  if (!*found) return std::optional<SessionRecord>();
  SessionRecord session;
  session.session_id = session_id;
  std::string status, split;
  std::tie(session.request_id, session.user_wallet, session.model_id, status, session.error_message,
           session.price_per_token, session.price_per_prompt_token, session.platform_fee_bps, split,
           session.tokens_generated, session.prompt_tokens, session.total_cost,
           session.platform_fee, session.operator_pay, session.operator_tokens, session.uncollected,
           session.started_at, session.ended_at) = **found;
  const auto known = status_of(status);
  if (!known) return Error{Errc::ledger_damaged, "a session has an unknown status"};
  session.status = *known;
  session.split = split == "equal" ? SplitPolicy::equal : SplitPolicy::layer_units;
  return std::optional(std::move(session));
}

Result<std::vector<Contribution>> load_contributions(Database& db, const std::string& session_id) {
  const auto rows =
      db.query<std::string, std::string, std::uint32_t, std::uint32_t, std::vector<std::uint32_t>,
               Far, std::string, std::string, std::optional<LedgerTime>>(
          "SELECT n.node_id, coalesce(c.wallet_address, n.wallet_address), c.tokens_contributed, "
          "c.prompt_tokens_contributed, c.layers_processed, {c.payment_far}, c.batch_id, "
          "c.payment_tx_hash, c.paid_at FROM far_session_contributions c "
          "JOIN far_nodes n ON n.id = c.node_id WHERE c.session_id = ?1 ORDER BY c.id",
          {session_id});
  if (!rows) return rows.error();
  std::vector<Contribution> contributions;
  for (const auto& row : *rows) {
    Contribution& contribution = contributions.emplace_back();
    std::tie(contribution.node_id, contribution.wallet, contribution.tokens,
             contribution.prompt_tokens, contribution.layers, contribution.payment,
             contribution.batch_id, contribution.payment_tx_hash, contribution.paid_at) = row;
  }
  return contributions;
}

Result<WorkLog> load_work(Database& db, const std::string& session_id) {
  const auto row = db.query_one<std::string>(
      "SELECT work_log FROM far_session_work WHERE session_id = ?1", {session_id});
  if (!row) return row.error();
  return *row ? decode_work(std::get<0>(**row)) : WorkLog();
}

Prices prices_of(const SessionRecord& session) {
  return {session.price_per_token, session.price_per_prompt_token, session.platform_fee_bps,
          session.split};
}

Result<Result<SessionRecord>> finish_session(Database& db, const SessionOutcome& outcome,
                                             LedgerTime now, NodeTotals& totals) {
  FARMESH_ASSERT(outcome.status != SessionStatus::active);
  auto found = load_session(db, outcome.session_id, /*lock=*/true);
  if (!found) return found.error();
  if (!*found) return Result<SessionRecord>(Errc::not_found, "no such session");
  SessionRecord session = std::move(**found);
  if (session.status != SessionStatus::active) return ended_before(db, std::move(session), outcome);

  const Result<Settlement> settlement = settle(outcome.log, prices_of(session));
  if (!settlement) return Result<SessionRecord>(settlement.error());
  session.status = outcome.status;
  session.error_message = outcome.error_message;
  session.tokens_generated = settlement->tokens;
  session.prompt_tokens = settlement->prompt_tokens;
  session.total_cost = settlement->cost;
  session.platform_fee = settlement->fee;
  session.ended_at = now;
  Result<void> step = write_work(db, session.session_id, outcome.log, now);
  if (step) step = write_contributions(db, session, *settlement, now, totals);
  if (!step) return step.error();
  const Result<Far> uncollected =
      settle_reservation(db, session.request_id, session.total_cost, now);
  if (!uncollected) return uncollected.error();
  session.uncollected = *uncollected;
  step = write_end(db, session, now);
  if (step) step = open_disputes_of(db, session.session_id, outcome.log, now);
  if (!step) return step.error();
  return Result<SessionRecord>(std::move(session));
}

Result<void> write_work(Database& db, const std::string& session_id, const WorkLog& log,
                        LedgerTime now) {
  const auto written = db.execute(
      "INSERT INTO far_session_work (session_id, work_log, recorded_at) VALUES (?1, ?2, ?3) "
      "ON CONFLICT (session_id) DO UPDATE SET work_log = excluded.work_log, "
      "recorded_at = excluded.recorded_at",
      {session_id, encode_work(log), now});
  return written ? Result<void>() : written.error();
}

}  // namespace farmesh::ledger
