// The public face: each call checks what it was given, then runs one transaction.
#include <algorithm>
#include <tuple>

#include <farmesh/ledger.hpp>

#include "base/assert.hpp"
#include "ledger/audit.hpp"
#include "ledger/checks.hpp"
#include "ledger/session_rows.hpp"
#include "ledger/store.hpp"

namespace farmesh {

inline namespace FARMESH_ABI {

std::string_view name(SessionStatus status) noexcept {
  switch (status) {
    case SessionStatus::active: return "active";
    case SessionStatus::completed: return "completed";
    case SessionStatus::failed: return "failed";
    case SessionStatus::cancelled: return "cancelled";
  }
  return "?";
}

}  // namespace FARMESH_ABI

namespace {

using ledger::check_prose;
using ledger::check_text;
using ledger::Database;

constexpr std::size_t kMaxId = 255;
constexpr std::size_t kMaxWallet = 42;
constexpr std::size_t kMaxDigest = 64;
constexpr std::size_t kMaxErrorMessage = 1'024;
constexpr std::size_t kMaxPrompt = 1u << 20;
constexpr std::uint32_t kMaxFeeBps = 10'000;

Result<void> check(const SessionStart& start) {
  Result<void> good = check_text(start.request_id, kMaxId, "request_id");
  if (good) good = check_text(start.user_wallet, kMaxWallet, "user_wallet");
  if (good) good = check_text(start.model_id, kMaxId, "model_id");
  if (good) good = check_text(start.body_digest, kMaxDigest, "body_digest", true);
  if (good) good = check_text(start.coordinator, kMaxDigest, "coordinator", true);
  if (good) good = check_prose(start.prompt_text, kMaxPrompt, "prompt_text");
  if (!good) return good;
  if (start.price_per_token.is_negative() || start.price_per_prompt_token.is_negative()) {
    return Error{Errc::amount_invalid, "a negative price"};
  }
  if (start.max_tokens > ledger::kMaxTokens || start.repeated_tokens > ledger::kMaxTokens ||
      start.platform_fee_bps > kMaxFeeBps) {
    return Error{Errc::invalid_argument,
                 "max_tokens, repeated_tokens or platform_fee_bps is out of range"};
  }
  // Also false for NaN.
  const bool sane =
      start.temperature >= 0 && start.temperature <= 1e6 && start.top_p >= 0 && start.top_p <= 1;
  return sane ? Result<void>() : Error{Errc::invalid_argument, "temperature or top_p"};
}

Result<void> check(const SessionOutcome& outcome) {
  if (outcome.status == SessionStatus::active) {
    return Error{Errc::invalid_argument, "a session cannot end as active"};
  }
  const Result<void> good = check_prose(outcome.error_message, kMaxErrorMessage, "error_message");
  return good ? ledger::check_work(outcome.log) : good;
}

Result<Result<SessionOpened>> begin_one(Database& db, const SessionStart& start,
                                        const std::string& new_id, LedgerTime now) {
  const auto inserted = db.execute(
      "INSERT INTO far_mesh_sessions (id, request_id, user_wallet, model_id, prompt_text, "
      "max_tokens, temperature, top_p, started_at, created_at, updated_at, status, "
      "{price_per_token_far}, {price_per_prompt_token_far}, platform_fee_bps, split_policy, "
      "body_digest, coordinator, streamed, repeated_tokens, prompt_charged) "
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(?7 AS double precision), "
      "CAST(?8 AS double precision), ?9, ?10, ?11, 'active', ?12, ?13, ?14, ?15, ?16, ?17, "
      "?18, ?19, ?20) ON CONFLICT (request_id) DO NOTHING",
      // clang-format off
      {new_id, start.request_id, start.user_wallet, start.model_id, start.prompt_text,
       start.max_tokens, start.temperature, start.top_p, now, now, now, start.price_per_token,
       start.price_per_prompt_token, start.platform_fee_bps,
       start.split == SplitPolicy::equal ? "equal" : "layer_units", start.body_digest,
       start.coordinator, start.streamed, start.repeated_tokens, start.prompt_charged});
  // clang-format on
  if (!inserted) return inserted.error();
  if (*inserted == 1) return Result<SessionOpened>(SessionOpened{new_id, true});

  const auto row =
      db.query_one<std::string, std::string, std::string, std::string, std::uint32_t, std::string>(
          "SELECT id, user_wallet, model_id, body_digest, max_tokens, status "
          "FROM far_mesh_sessions WHERE request_id = ?1",
          {start.request_id});
  if (!row) return row.error();
  if (!*row) return Error{Errc::ledger_damaged, "a session vanished"};
  const auto& [id, wallet, model, digest, max_tokens, status] = **row;
  if (wallet != start.user_wallet || model != start.model_id || digest != start.body_digest ||
      max_tokens != start.max_tokens) {
    return Result<SessionOpened>(Errc::ledger_conflict,
                                 "this request_id came before with another body");
  }
  SessionOpened opened{id, id == new_id};  // equal: written by this call's attempt before
  for (const auto known :
       {SessionStatus::completed, SessionStatus::failed, SessionStatus::cancelled}) {
    if (name(known) == status) opened.status = known;
  }
  return Result<SessionOpened>(std::move(opened));
}

Result<void> checkpoint_one(Database& db, const SessionProgress& progress, LedgerTime now) {
  const auto live = db.execute(
      "UPDATE far_mesh_sessions SET tokens_generated = ?2, updated_at = ?3 "
      "WHERE id = ?1 AND status = 'active'",
      {progress.session_id, progress.log.output_tokens(), now});
  if (!live) return live.error();
  if (*live == 0) return {};
  return ledger::write_work(db, progress.session_id, progress.log, now);
}

Result<std::vector<std::tuple<std::string>>> abandoned_ids(Database& db, const Abandoned& which,
                                                           LedgerTime now) {
  const LedgerTime silent_since = which.silent_since.value_or(now);
  if (!which.session_id.empty()) {
    // Whose clock wrote the row does not matter unless the caller asks for silence.
    return db.query<std::string>(
        "SELECT id FROM far_mesh_sessions WHERE id = ?1 AND status = 'active' AND "
        "(coordinator = ?2 OR ?3) AND (updated_at <= ?4 OR ?5) {for update}",
        {which.session_id, which.coordinator, which.coordinator.empty(), silent_since,
         !which.silent_since});
  }
  // An empty name stands for every coordinator's; times before any session for all of them.
  return db.query<std::string>(
      "SELECT id FROM far_mesh_sessions WHERE status = 'active' AND "
      "(coordinator = ?1 OR ?2) AND updated_at <= ?3 ORDER BY id LIMIT ?4 {for update}",
      {which.coordinator, which.coordinator.empty(), silent_since,
       static_cast<std::int64_t>(which.limit)});
}

/// One element's answer out of a call for many.
template <class T>
Result<T> only(Result<std::vector<Result<T>>> answers) {
  if (!answers) return answers.error();
  return std::move(answers->front());
}

}  // namespace

Result<ContributionLedger> ContributionLedger::open(LedgerOptions options) {
  auto store = ledger::Store::open(std::move(options));
  if (!store) return store.error();
  return ContributionLedger(std::move(*store));
}

ContributionLedger::ContributionLedger(std::shared_ptr<ledger::Store> store)
    : store_(std::move(store)) {
  FARMESH_ASSERT(store_ != nullptr);
}
ContributionLedger::ContributionLedger(ContributionLedger&&) noexcept = default;
ContributionLedger& ContributionLedger::operator=(ContributionLedger&&) noexcept = default;
ContributionLedger::~ContributionLedger() = default;

ledger::Store& ContributionLedger::store() noexcept { return *store_; }

Result<std::vector<Result<SessionOpened>>> ContributionLedger::begin_sessions(
    std::span<const SessionStart> starts) {
  using Answers = std::vector<Result<SessionOpened>>;
  // Chosen outside: an attempt whose answer was lost is recognised by the next.
  std::vector<std::string> ids(starts.size());
  std::ranges::generate(ids, ledger::new_uuid);
  return store_->transact([&](Database& db) -> Result<Answers> {
    Answers answers;
    for (std::size_t i = 0; i < starts.size(); ++i) {
      if (const Result<void> good = check(starts[i]); !good) {
        answers.push_back(good.error());
        continue;
      }
      auto opened = begin_one(db, starts[i], ids[i], store_->now());
      if (!opened) return opened.error();
      answers.push_back(std::move(*opened));
    }
    return answers;
  });
}

Result<SessionOpened> ContributionLedger::begin_session(const SessionStart& start) {
  return only(begin_sessions({&start, 1}));
}

Result<void> ContributionLedger::checkpoint(std::span<const SessionProgress> progress) {
  for (const SessionProgress& one : progress) {
    const Result<void> good = ledger::check_work(one.log);
    if (!good) return good;
    if (!ledger::is_uuid(one.session_id)) return Error{Errc::not_found, "no such session"};
  }
  // In one order everywhere, so that no two transactions wait for each other in a circle.
  std::vector<const SessionProgress*> sorted;
  for (const SessionProgress& one : progress) sorted.push_back(&one);
  std::ranges::sort(sorted, {}, [](const SessionProgress* one) { return one->session_id; });
  return store_->transact([&](Database& db) -> Result<void> {
    for (const SessionProgress* one : sorted) {
      const Result<void> written = checkpoint_one(db, *one, store_->now());
      if (!written) return written;
    }
    return {};
  });
}

Result<std::vector<Result<SessionRecord>>> ContributionLedger::finalize_sessions(
    std::span<const SessionOutcome> outcomes) {
  using Answers = std::vector<Result<SessionRecord>>;
  return store_->transact([&](Database& db) -> Result<Answers> {
    const LedgerTime now = store_->now();
    Answers answers;
    ledger::NodeTotals totals;
    for (const SessionOutcome& outcome : outcomes) {
      if (const Result<void> good = check(outcome); !good) {
        answers.push_back(good.error());
        continue;
      }
      auto ended = ledger::finish_session(db, outcome, now, totals);
      if (!ended) return ended.error();
      answers.push_back(std::move(*ended));
    }
    const Result<void> counted = totals.write(db, now);
    if (!counted) return counted.error();
    return answers;
  });
}

Result<SessionRecord> ContributionLedger::finalize_session(const SessionOutcome& outcome) {
  return only(finalize_sessions({&outcome, 1}));
}

Result<std::vector<AbandonedSession>> ContributionLedger::find_abandoned(const Abandoned& which) {
  using Sessions = std::vector<AbandonedSession>;
  if (!which.session_id.empty() && !ledger::is_uuid(which.session_id)) {
    return Error{Errc::not_found, "no such session"};
  }
  return store_->transact([&](Database& db) -> Result<Sessions> {
    const auto ids = abandoned_ids(db, which, store_->now());
    if (!ids) return ids.error();
    Sessions sessions;
    for (const auto& [id] : *ids) {
      const auto row =
          db.query_one<std::string, std::string, std::uint32_t, bool, std::uint32_t, bool>(
              "SELECT request_id, model_id, max_tokens, streamed, repeated_tokens, prompt_charged "
              "FROM far_mesh_sessions WHERE id = ?1",
              {id});
      if (!row) return row.error();
      if (!*row) return Error{Errc::ledger_damaged, "a locked session vanished"};
      Result<WorkLog> log = ledger::load_work(db, id);
      if (!log) return log.error();
      const auto& [request_id, model_id, max_tokens, streamed, repeated, prompt_charged] = **row;
      sessions.push_back({id, request_id, model_id, max_tokens, streamed, repeated, prompt_charged,
                          std::move(*log)});
    }
    return sessions;
  });
}

Result<std::vector<SessionRecord>> ContributionLedger::close_abandoned(const Abandoned& which) {
  using Records = std::vector<SessionRecord>;
  if (!which.session_id.empty() && !ledger::is_uuid(which.session_id)) {
    return Error{Errc::not_found, "no such session"};
  }
  return store_->transact([&](Database& db) -> Result<Records> {
    const LedgerTime now = store_->now();
    const auto ids = abandoned_ids(db, which, now);
    if (!ids) return ids.error();
    Records records;
    ledger::NodeTotals totals;
    for (const auto& [id] : *ids) {
      Result<WorkLog> log = ledger::load_work(db, id);
      if (!log) return log.error();
      const SessionOutcome outcome{id, SessionStatus::failed, ledger::kAbandonedMessage,
                                   std::move(*log)};
      auto ended = ledger::finish_session(db, outcome, now, totals);
      if (!ended) return ended.error();
      if (!*ended) return ended->error();
      records.push_back(std::move(**ended));
    }
    const Result<void> counted = totals.write(db, now);
    if (!counted) return counted.error();
    return records;
  });
}

Result<SessionRecord> ContributionLedger::session(const std::string& session_id) {
  return store_->transact([&](Database& db) -> Result<SessionRecord> {
    auto found = ledger::load_session(db, session_id, /*lock=*/false);
    if (!found) return found.error();
    if (!*found) return Error{Errc::not_found, "no such session"};
    auto contributions = ledger::load_contributions(db, session_id);
    if (!contributions) return contributions.error();
    (*found)->contributions = std::move(*contributions);
    return std::move(**found);
  });
}

Result<SessionRecord> ContributionLedger::session_of_request(const std::string& request_id) {
  const auto id = store_->transact([&](Database& db) -> Result<std::string> {
    const auto row = db.query_one<std::string>(
        "SELECT id FROM far_mesh_sessions WHERE request_id = ?1", {request_id});
    if (!row) return row.error();
    if (!*row) return Error{Errc::not_found, "no session has this request_id"};
    return std::get<0>(**row);
  });
  return id ? session(*id) : id.error();
}

Result<std::vector<Dispute>> ContributionLedger::open_disputes(std::size_t limit) {
  return store_->transact([&](Database& db) -> Result<std::vector<Dispute>> {
    const auto rows = db.query<std::int64_t, std::string, std::string, std::int64_t, std::int64_t,
                               std::uint64_t, std::uint64_t>(
        "SELECT id, session_id, node_id, layers_start, layers_end, claimed_tokens, logged_tokens "
        "FROM far_disputes WHERE resolved_at IS NULL ORDER BY id LIMIT ?1",
        {static_cast<std::int64_t>(limit)});
    if (!rows) return rows.error();
    std::vector<Dispute> disputes;
    for (const auto& [id, session, node, start, end, claimed, logged] : *rows) {
      disputes.push_back({id, session, node, ledger::from_sql(start, end), claimed, logged});
    }
    return disputes;
  });
}

Result<void> ContributionLedger::resolve_dispute(std::int64_t id, const std::string& resolution) {
  const Result<void> good = check_text(resolution, kMaxId, "resolution");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto resolved = db.execute(
        "UPDATE far_disputes SET resolved_at = ?2, resolution = ?3 "
        "WHERE id = ?1 AND resolved_at IS NULL",
        {id, store_->now(), resolution});
    if (!resolved) return resolved.error();
    if (*resolved == 1) return {};
    const auto row = db.query_one<std::int64_t>("SELECT id FROM far_disputes WHERE id = ?1", {id});
    if (!row) return row.error();
    return *row ? Result<void>() : Error{Errc::not_found, "no such dispute"};
  });
}

Result<AuditReport> ContributionLedger::audit() { return ledger::audit(*store_); }

}  // namespace farmesh
