#include "ledger/receipts.hpp"

#include <algorithm>
#include <map>

#include "ledger/checks.hpp"
#include "ledger/session_rows.hpp"

namespace farmesh::ledger {
namespace {

using Body = std::array<std::uint8_t, wire::kReceiptBytes>;

ByteView view_of(std::span<const std::uint8_t> bytes) { return std::as_bytes(bytes); }

/// Whether each count of `later` is at least what `earlier` had.
bool goes_on(const wire::TokenCounts& earlier, const wire::TokenCounts& later) {
  return later.prefill >= earlier.prefill && later.cached >= earlier.cached &&
         later.decode >= earlier.decode && later.replay >= earlier.replay &&
         later.rejected >= earlier.rejected && later.standby >= earlier.standby;
}

std::uint64_t logged_tokens(const WorkLog& log, const std::string& node_id, Span span) {
  std::uint64_t tokens = 0;
  for (const WorkSegment& segment : log.output) {
    for (const WorkHop& hop : segment.route) {
      if (hop.node_id == node_id && hop.layers.size() == span.size() &&
          (span.empty() || hop.layers == span)) {
        tokens += segment.tokens;
      }
    }
  }
  return tokens;
}

/// Whether every node of the log has a receipt that says the same of its output.
bool says_all(const std::vector<StoredReceipt>& receipts, const WorkLog& log) {
  for (const WorkSegment& segment : log.output) {
    for (const WorkHop& hop : segment.route) {
      if (hop.node_id.empty()) continue;
      const std::uint64_t logged = logged_tokens(log, hop.node_id, hop.layers);
      const bool said = std::ranges::any_of(receipts, [&](const StoredReceipt& stored) {
        const wire::Receipt& receipt = stored.receipt.receipt;
        return to_string(receipt.node_id) == hop.node_id && receipt.span == hop.layers &&
               receipt.counts.decode == logged;
      });
      if (!said) return false;
    }
  }
  return true;
}

Result<void> compare(Database& db, const std::string& session_id, const wire::Receipt& receipt,
                     bool countersigned, const WorkLog& log, LedgerTime now) {
  if (!disagrees(receipt, countersigned, log)) return {};
  const std::string node_id = to_string(receipt.node_id);
  const std::uint64_t logged = logged_tokens(log, node_id, receipt.span);
  const SqlLayers layers = to_sql(receipt.span);
  const auto opened = db.execute(
      "INSERT INTO far_disputes (session_id, node_id, layers_start, layers_end, claimed_tokens, "
      "logged_tokens, opened_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (session_id, "
      "node_id, layers_start, layers_end, claimed_tokens) DO NOTHING",
      {session_id, node_id, layers.start, layers.end,
       static_cast<std::int64_t>(receipt.counts.decode), static_cast<std::int64_t>(logged), now});
  return opened ? Result<void>() : opened.error();
}

/// The receipt just before `sequence`, and just after it.
Result<Result<void>> fits_between_neighbours(Database& db, const std::string& session_id,
                                             const std::string& node_id,
                                             const wire::Receipt& receipt) {
  const SqlLayers layers = to_sql(receipt.span);
  const auto rows = db.query<std::uint32_t, std::vector<std::uint8_t>>(
      "SELECT sequence, receipt FROM far_receipts WHERE session_id = ?1 AND node_id = ?2 AND "
      "layers_start = ?3 AND layers_end = ?4",
      {session_id, node_id, layers.start, layers.end});
  if (!rows) return rows.error();
  for (const auto& [sequence, bytes] : *rows) {
    const Result<wire::Receipt> other = wire::decode_receipt(bytes);
    if (!other) return Error{Errc::ledger_damaged, "a stored receipt is none"};
    if (sequence == receipt.sequence && *other != receipt) {
      return Result<void>(Errc::ledger_conflict, "another receipt has this sequence");
    }
    const bool earlier = sequence < receipt.sequence;
    if (!goes_on(earlier ? other->counts : receipt.counts,
                 earlier ? receipt.counts : other->counts)) {
      return Result<void>(Errc::receipt_invalid, "its counts do not go on from another receipt's");
    }
  }
  return Result<void>();
}

Result<Result<void>> record_one(Database& db, const wire::SignedReceipt& signed_receipt,
                                const std::optional<wire::KeyBytes>& driver_key,
                                const wire::SignatureBytes& driver_signature, LedgerTime now) {
  const wire::Receipt& receipt = signed_receipt.receipt;
  const std::string session_id = uuid_text(receipt.account);
  const std::string node_id = to_string(receipt.node_id);
  // Locked: two receipts of a session are compared with each other.
  const auto session = load_session(db, session_id, /*lock=*/true);
  if (!session) return session.error();
  if (!*session) return Result<void>(Errc::not_found, "no such session");
  const auto fits = fits_between_neighbours(db, session_id, node_id, receipt);
  if (!fits) return fits.error();
  if (!*fits) return Result<void>(fits->error());

  const Body body = wire::encode(receipt);
  const SqlLayers layers = to_sql(receipt.span);
  const wire::TokenCounts& counts = receipt.counts;
  const auto count = [](std::uint64_t tokens) { return static_cast<std::int64_t>(tokens); };
  const auto written = db.execute(
      "INSERT INTO far_receipts (session_id, node_id, layers_start, layers_end, sequence, "
      "prefill_tokens, cached_tokens, decode_tokens, replay_tokens, rejected_tokens, "
      "standby_tokens, receipt, node_key, node_signature, driver_key, driver_signature, "
      "received_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, "
      "?16, ?17) ON CONFLICT (session_id, node_id, layers_start, layers_end, sequence) DO NOTHING",
      {session_id, node_id, layers.start, layers.end, receipt.sequence, count(counts.prefill),
       count(counts.cached), count(counts.decode), count(counts.replay), count(counts.rejected),
       count(counts.standby), Blob(body), Blob(signed_receipt.node_key),
       Blob(signed_receipt.node_signature), driver_key ? Value(Blob(*driver_key)) : Value(nullptr),
       driver_key ? Value(Blob(driver_signature)) : Value(nullptr), now});
  if (!written) return written.error();
  if ((*session)->status != SessionStatus::active && *written == 1) {
    const Result<WorkLog> log = load_work(db, session_id);
    if (!log) return log.error();
    const Result<void> compared =
        compare(db, session_id, receipt, driver_key.has_value(), *log, now);
    if (!compared) return compared.error();
  }
  return Result<void>();
}

template <std::size_t Size>
bool copy_exactly(const std::vector<std::uint8_t>& from, std::array<std::uint8_t, Size>& to) {
  if (from.size() != Size) return false;
  std::ranges::copy(from, to.begin());
  return true;
}

}  // namespace

Result<CheckedReceipt> CheckedReceipt::check(const wire::SignedReceipt& receipt) {
  if (identity::node_id_of(receipt.node_key) != receipt.receipt.node_id) {
    return Error{Errc::receipt_invalid, "its key is another node's"};
  }
  const Body body = wire::encode(receipt.receipt);
  if (!identity::verify(receipt.node_key, wire::kReceiptDomain, view_of(body),
                        receipt.node_signature)) {
    return Error{Errc::receipt_invalid, "its node did not sign it"};
  }
  return CheckedReceipt(receipt);
}

Result<CheckedReceipt> CheckedReceipt::check(const wire::JudgedReceipt& receipt) {
  Result<CheckedReceipt> checked = check(receipt.receipt);
  if (!checked || !receipt.driver_key) return checked;
  const Body body = wire::encode(receipt.receipt.receipt);
  if (!identity::verify(*receipt.driver_key, wire::kCountersignDomain, view_of(body),
                        receipt.driver_signature)) {
    return Error{Errc::receipt_invalid, "its driver did not countersign it"};
  }
  checked->driver_key_ = receipt.driver_key;
  checked->driver_signature_ = receipt.driver_signature;
  return checked;
}

void CheckedReceipt::countersign(const identity::NodeKey& driver) {
  const Body body = wire::encode(signed_.receipt);
  driver_key_ = driver.public_key();
  driver_signature_ = driver.sign(wire::kCountersignDomain, view_of(body));
}

wire::SignedReceipt sign(const wire::Receipt& receipt, const identity::NodeKey& key) {
  const Body body = wire::encode(receipt);
  return {receipt, key.public_key(), key.sign(wire::kReceiptDomain, view_of(body))};
}

Result<std::vector<Result<void>>> Receipts::record(std::span<const CheckedReceipt> receipts) {
  using Answers = std::vector<Result<void>>;
  return store_->transact([&](Database& db) -> Result<Answers> {
    Answers answers;
    for (const CheckedReceipt& receipt : receipts) {
      auto recorded = record_one(db, receipt.signed_, receipt.driver_key_,
                                 receipt.driver_signature_, store_->now());
      if (!recorded) return recorded.error();
      answers.push_back(std::move(*recorded));
    }
    return answers;
  });
}

Result<std::vector<StoredReceipt>> Receipts::of_session(const std::string& session_id) {
  return store_->transact([&](Database& db) { return load_receipts(db, session_id); });
}

Result<std::vector<UnreceiptedSession>> Receipts::missing(const std::string& coordinator,
                                                          LedgerTime since, std::size_t limit) {
  using Sessions = std::vector<UnreceiptedSession>;
  return store_->transact([&](Database& db) -> Result<Sessions> {
    const auto rows = db.query<std::string, std::string, std::uint32_t, bool>(
        "SELECT id, model_id, repeated_tokens, prompt_charged FROM far_mesh_sessions "
        "WHERE coordinator = ?1 AND status = 'failed' AND error_message = ?2 AND started_at >= ?3 "
        "ORDER BY started_at DESC LIMIT ?4",
        {coordinator, kAbandonedMessage, since, static_cast<std::int64_t>(limit)});
    if (!rows) return rows.error();
    Sessions sessions;
    for (const auto& [id, model_id, repeated_tokens, prompt_charged] : *rows) {
      Result<WorkLog> log = load_work(db, id);
      if (!log) return log.error();
      const auto receipts = load_receipts(db, id);
      if (!receipts) return receipts.error();
      if (says_all(*receipts, *log)) continue;
      sessions.push_back({id, model_id, repeated_tokens, prompt_charged, std::move(*log)});
    }
    return sessions;
  });
}

Result<std::vector<StoredReceipt>> load_receipts(Database& db, const std::string& session_id) {
  using Bytes = std::vector<std::uint8_t>;
  if (!is_uuid(session_id)) return std::vector<StoredReceipt>();
  const auto rows = db.query<std::int64_t, Bytes, Bytes, Bytes, std::optional<Bytes>,
                             std::optional<Bytes>, LedgerTime>(
      "SELECT id, receipt, node_key, node_signature, driver_key, driver_signature, received_at "
      "FROM far_receipts WHERE session_id = ?1 ORDER BY id",
      {session_id});
  if (!rows) return rows.error();
  std::vector<StoredReceipt> receipts;
  for (const auto& [id, body, key, signature, driver_key, driver_signature, time] : *rows) {
    StoredReceipt& stored = receipts.emplace_back();
    const Result<wire::Receipt> receipt = wire::decode_receipt(body);
    bool good = receipt.has_value() && copy_exactly(key, stored.receipt.node_key) &&
                copy_exactly(signature, stored.receipt.node_signature) &&
                driver_key.has_value() == driver_signature.has_value();
    if (good && driver_key) {
      good = copy_exactly(*driver_key, stored.driver_key.emplace()) &&
             copy_exactly(*driver_signature, stored.driver_signature);
    }
    if (!good) {
      return Error{Errc::ledger_damaged, "receipt " + std::to_string(id) + " is damaged"};
    }
    stored.id = id;
    stored.receipt.receipt = *receipt;
    stored.received_at = time;
  }
  return receipts;
}

bool disagrees(const wire::Receipt& receipt, bool countersigned, const WorkLog& log) {
  if (countersigned) return false;
  return logged_tokens(log, to_string(receipt.node_id), receipt.span) != receipt.counts.decode;
}

Result<void> open_disputes_of(Database& db, const std::string& session_id, const WorkLog& log,
                              LedgerTime now) {
  const auto rows = db.query<std::vector<std::uint8_t>, std::int64_t>(
      "SELECT receipt, CASE WHEN driver_key IS NULL THEN 0 ELSE 1 END FROM far_receipts WHERE "
      "session_id = ?1 ORDER BY sequence",
      {session_id});
  if (!rows) return rows.error();
  std::map<std::pair<NodeId, Span>, std::pair<wire::Receipt, bool>> newest;
  for (const auto& [bytes, countersigned] : *rows) {
    const Result<wire::Receipt> receipt = wire::decode_receipt(bytes);
    if (!receipt) return Error{Errc::ledger_damaged, "a stored receipt is none"};
    newest[{receipt->node_id, receipt->span}] = {*receipt, countersigned != 0};
  }
  for (const auto& [key, last] : newest) {
    const Result<void> compared = compare(db, session_id, last.first, last.second, log, now);
    if (!compared) return compared;
  }
  return {};
}

}  // namespace farmesh::ledger
