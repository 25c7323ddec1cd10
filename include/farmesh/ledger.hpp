// The ledger: which session cost what, who did the work, and what each is owed, in $FAR.
//
// Kept in SQLite (a file) or PostgreSQL (a URL), with the same tables and the same rules; docs/
// ledger.md has both. Every call is one transaction: done whole, durably, or not at all. Every
// call may be repeated after a failure or a lost answer: it then finds what it did before.
// Thread-safe; calls block on the database. Move-only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/export.hpp>
#include <farmesh/money.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

namespace farmesh::ledger {
class Store;
}  // namespace farmesh::ledger

namespace farmesh::inline FARMESH_ABI {

using LedgerTime = std::chrono::sys_time<std::chrono::milliseconds>;

struct LedgerOptions {
  /// "postgresql://…" or "postgres://…", or a SQLite file ("sqlite:PATH" or a path).
  std::string url;
  /// SQLite: false keeps the database whole after a power cut, but may lose its last moments.
  bool durable = true;
  /// How long to wait for another process's lock before ledger_unavailable.
  std::chrono::milliseconds lock_timeout{10'000};
  /// Now, for rows and expiries; the system's clock unless a test sets another.
  std::function<LedgerTime()> clock;
};

/// How a session's tokens are shared among those who made them.
enum class SplitPolicy : std::uint8_t {
  layer_units,  // a unit for each layer a token passed
  equal,        // a unit for each stage a token passed
};

/// One stage's part in the tokens of a segment.
struct WorkHop {
  std::string node_id;  // 64 hexadecimal digits; empty: the operator's own machine, or fallback
  Span layers;
  bool head = false;  // embedding and logits too, when a provider does them: counts as a layer

  friend bool operator==(const WorkHop&, const WorkHop&) = default;
};

/// Consecutive tokens that took one route.
struct WorkSegment {
  std::uint32_t tokens = 0;
  std::vector<WorkHop> route;  // in route order; no hop overlaps another

  friend bool operator==(const WorkSegment&, const WorkSegment&) = default;
};

/// The driver's step log: for each committed token, whose results made it the first time.
/// Replays, rejected drafts and cached prefixes are not in it.
struct FARMESH_API WorkLog {
  std::vector<WorkSegment> prompt;  // prompt tokens that were computed
  std::vector<WorkSegment> output;

  /// A segment is added only where the route changes.
  void add_prompt(std::span<const WorkHop> route, std::uint32_t tokens);
  void add_output(std::span<const WorkHop> route, std::uint32_t tokens);
  /// Keeps the first `tokens` output tokens: those that were delivered.
  void keep_output(std::uint32_t tokens);
  std::uint32_t prompt_tokens() const noexcept;
  std::uint32_t output_tokens() const noexcept;

  friend bool operator==(const WorkLog&, const WorkLog&) = default;
};

struct SessionStart {
  std::string request_id;   // 1 to 255 bytes; a second session with it is the first one
  std::string user_wallet;  // or another account's id, at most 42 bytes
  std::string model_id;     // at most 255 bytes
  std::string body_digest;  // what distinguishes bodies under one request_id, at most 64 bytes
  std::uint32_t max_tokens = 512;
  double temperature = 0.7;
  double top_p = 0.9;
  Far price_per_token;                 // holds to the session's end, whatever the price becomes
  Far price_per_prompt_token;          // of prompt tokens that had to be computed
  std::uint32_t platform_fee_bps = 0;  // of each price, rounded down to base units; at most 10'000
  SplitPolicy split = SplitPolicy::layer_units;
  std::string coordinator;  // who serves it, for close_abandoned(); at most 64 bytes
  std::string prompt_text;  // empty unless the operator stores prompts; at most 1 MiB
  bool streamed = false;    // its tokens are delivered as they come, not at its end
  /// Of a stream that goes on: what earlier sessions of its request charged already.
  std::uint32_t repeated_tokens = 0;  // of output, and made once more by this one's nodes
  bool prompt_charged = false;
};

enum class SessionStatus : std::uint8_t { active, completed, failed, cancelled };
FARMESH_API std::string_view name(SessionStatus status) noexcept;

struct SessionOpened {
  std::string session_id;  // a UUID
  bool is_new = false;     // false: this request had a session already
  SessionStatus status = SessionStatus::active;
};

/// A live session's log so far: what a crash cannot take away.
struct SessionProgress {
  std::string session_id;
  WorkLog log;
};

struct SessionOutcome {
  std::string session_id;
  SessionStatus status = SessionStatus::completed;  // not active
  std::string error_message;                        // at most 1,024 bytes
  WorkLog log;                                      // output cut to what was delivered
};

/// What one node is owed for one session.
struct Contribution {
  std::string node_id;
  std::string wallet;  // as the node had it then; empty: none yet
  std::uint32_t tokens = 0;
  std::uint32_t prompt_tokens = 0;
  std::vector<std::uint32_t> layers;  // ascending
  Far payment;
  std::string batch_id;  // empty: in no batch yet
  std::string payment_tx_hash;
  std::optional<LedgerTime> paid_at;
};

struct SessionRecord {
  std::string session_id;
  std::string request_id;
  std::string user_wallet;
  std::string model_id;
  SessionStatus status = SessionStatus::active;
  std::string error_message;
  Far price_per_token;
  Far price_per_prompt_token;
  std::uint32_t platform_fee_bps = 0;
  SplitPolicy split = SplitPolicy::layer_units;
  std::uint32_t tokens_generated = 0;
  std::uint32_t prompt_tokens = 0;
  Far total_cost;  // payments + operator_pay + platform_fee, exactly
  Far platform_fee;
  Far operator_pay;  // for layers and fallback tokens of the operator's own
  std::uint32_t operator_tokens = 0;
  Far uncollected;  // part of the cost that the payer's credit did not cover
  LedgerTime started_at{};
  std::optional<LedgerTime> ended_at;
  std::vector<Contribution> contributions;  // in route order; empty while active
};

/// Sessions that no process will finish.
struct Abandoned {
  std::string coordinator;                 // only this one's; empty: anyone's
  std::string session_id;                  // only this one; empty: any
  std::optional<LedgerTime> silent_since;  // only those without progress since then
  std::size_t limit = 1'000;
};

/// A session that no process will finish, as it was saved last.
struct AbandonedSession {
  std::string session_id;
  std::string request_id;
  std::string model_id;
  std::uint32_t max_tokens = 0;
  bool streamed = false;
  std::uint32_t repeated_tokens = 0;
  bool prompt_charged = false;
  WorkLog log;
};

/// Where receipt and driver's log disagree. The log has been paid; the difference stays open.
struct Dispute {
  std::int64_t id = 0;
  std::string session_id;
  std::string node_id;
  Span layers;
  std::uint64_t claimed_tokens = 0;  // decode tokens of the node's receipt
  std::uint64_t logged_tokens = 0;   // of the driver's log
  bool open = true;
  std::string resolution;
};

/// One difference between what the rows say and what they should.
struct AuditFinding {
  std::string table;
  std::string row;  // the key of the row
  std::string what;
};

struct AuditReport {
  std::vector<AuditFinding> findings;  // at most 10,000; empty: every sum holds
  std::uint64_t sessions = 0;          // looked at
  std::uint64_t contributions = 0;
  std::uint64_t receipts = 0;
  Far earned;  // by all nodes
  Far paid;
};

class FARMESH_API ContributionLedger {
 public:
  /// Opens the database and migrates it. Fails with config_invalid (url), ledger_unavailable,
  /// ledger_newer.
  static Result<ContributionLedger> open(LedgerOptions options);
  /// Shares an open database with the other parts of the ledger.
  explicit ContributionLedger(std::shared_ptr<ledger::Store> store);

  ContributionLedger(ContributionLedger&&) noexcept;
  ContributionLedger& operator=(ContributionLedger&&) noexcept;
  ~ContributionLedger();

  /// One answer for each of `starts`, in order; all of them in one transaction. An element fails
  /// by itself with invalid_argument, amount_invalid or ledger_conflict (request_id known with
  /// another body); the whole fails with ledger_unavailable.
  Result<std::vector<Result<SessionOpened>>> begin_sessions(std::span<const SessionStart> starts);
  Result<SessionOpened> begin_session(const SessionStart& start);

  /// Replaces what is known of live sessions; meant for all of them about once a second. Sessions
  /// that have ended meanwhile are left alone.
  Result<void> checkpoint(std::span<const SessionProgress> progress);

  /// Ends sessions: computes cost and shares, writes one contribution a node, and settles the
  /// payer's reservation. Ending twice is ending once; an element fails by itself with
  /// invalid_argument, not_found, amount_invalid or ledger_conflict (ended before, otherwise).
  Result<std::vector<Result<SessionRecord>>> finalize_sessions(
      std::span<const SessionOutcome> outcomes);
  Result<SessionRecord> finalize_session(const SessionOutcome& outcome);

  /// Sessions that crashed with their coordinator: to be ended as failed with what was saved of
  /// them, or what their nodes prove beyond that.
  Result<std::vector<AbandonedSession>> find_abandoned(const Abandoned& which);
  /// Ends them so, paid by their last checkpoint.
  Result<std::vector<SessionRecord>> close_abandoned(const Abandoned& which);

  /// Fail with not_found.
  Result<SessionRecord> session(const std::string& session_id);
  Result<SessionRecord> session_of_request(const std::string& request_id);

  Result<std::vector<Dispute>> open_disputes(std::size_t limit = 1'000);
  /// `resolution`: why, at most 255 bytes. Resolving twice keeps the first resolution.
  Result<void> resolve_dispute(std::int64_t id, const std::string& resolution);

  /// Computes every sum again from receipts and logs, and reports every difference.
  Result<AuditReport> audit();

  ledger::Store& store() noexcept;

 private:
  std::shared_ptr<ledger::Store> store_;
};

}  // namespace farmesh::inline FARMESH_ABI
