#include "ledger/payout_book.hpp"

#include <algorithm>
#include <map>

#include "ledger/checks.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::size_t kMaxName = 128;
constexpr std::size_t kMaxOwner = 64;
constexpr std::size_t kMaxReason = 255;
constexpr const char* kPaused = "paused";
// No batch's id: what is asked for all batches excludes this one.
constexpr const char* kNoBatch = "00000000-0000-0000-0000-000000000000";

std::string batch_or_none(const std::string& id) { return is_uuid(id) ? id : kNoBatch; }

Result<void> check_lease(Database& db, const Lease& lease) {
  const auto row = db.query_one<std::string, std::int64_t>(
      "SELECT owner, epoch FROM far_payout_leases WHERE name = ?1 {for update}", {lease.name});
  if (!row) return row.error();
  if (*row && std::get<0>(**row) == lease.owner && std::get<1>(**row) == lease.epoch) return {};
  return Error{Errc::ledger_conflict, "another payer has taken over"};
}

Result<void> write_charges(Database& db, const std::string& batch_id,
                           const std::vector<UserCharge>& charges, Far fee) {
  auto step = db.execute("DELETE FROM far_payment_charges WHERE batch_id = ?1", {batch_id});
  for (const UserCharge& charge : charges) {
    if (!step) break;
    step = db.execute(
        "INSERT INTO far_payment_charges (batch_id, account, request_key, {amount_far}) VALUES "
        "(?1, ?2, ?3, ?4)",
        {batch_id, charge.account, charge.request_key, charge.amount});
  }
  if (step) {
    step =
        db.execute("UPDATE far_payment_batches SET {fee_far} = ?2 WHERE id = ?1", {batch_id, fee});
  }
  return step ? Result<void>() : step.error();
}

Result<void> write_transaction(Database& db, const StoredTransaction& transaction, LedgerTime now) {
  const auto written = db.execute(
      "INSERT INTO far_payment_transactions (tx_hash, batch_id, chain_id, sender, nonce, raw, "
      "operator_wallet, {operator_far}, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON "
      "CONFLICT (tx_hash) DO NOTHING",
      {transaction.tx_hash, transaction.batch_id, static_cast<std::int64_t>(transaction.chain_id),
       transaction.sender, static_cast<std::int64_t>(transaction.nonce), Blob(transaction.raw),
       transaction.operator_wallet, transaction.operator_pay, now});
  return written ? Result<void>() : written.error();
}

Result<void> put_setting(Database& db, const std::string& name, const std::string& value) {
  const auto written = db.execute(
      "INSERT INTO far_payout_settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE "
      "SET value = excluded.value",
      {name, value});
  return written ? Result<void>() : written.error();
}

}  // namespace

Result<std::optional<Lease>> PayoutBook::acquire(const std::string& name, const std::string& owner,
                                                 std::chrono::milliseconds duration) {
  Result<void> good = check_text(name, kMaxName, "lease");
  if (good) good = check_text(owner, kMaxOwner, "owner");
  if (!good) return good.error();
  using Taken = std::optional<Lease>;
  return store_->transact([&](Database& db) -> Result<Taken> {
    const LedgerTime now = store_->now();
    const auto made = db.execute(
        "INSERT INTO far_payout_leases (name, owner, epoch, expires_at) VALUES (?1, ?2, 1, ?3) "
        "ON CONFLICT (name) DO NOTHING",
        {name, owner, now + duration});
    if (!made) return made.error();
    const auto row = db.query_one<std::string, std::int64_t, LedgerTime>(
        "SELECT owner, epoch, expires_at FROM far_payout_leases WHERE name = ?1 {for update}",
        {name});
    if (!row) return row.error();
    if (!*row) return Error{Errc::ledger_damaged, "a lease vanished"};
    const auto& [holder, epoch, expires_at] = **row;
    const bool mine = holder == owner;
    // A clock that was set back must not let a dead holder keep it for years.
    const bool over = now >= expires_at || expires_at > now + 10 * duration;
    if (!mine && !over) return Taken();
    const std::int64_t next = mine ? epoch : epoch + 1;
    const auto renewed = db.execute(
        "UPDATE far_payout_leases SET owner = ?2, epoch = ?3, expires_at = ?4 WHERE name = ?1",
        {name, owner, next, now + duration});
    if (!renewed) return renewed.error();
    return Taken(Lease{name, owner, next});
  });
}

Result<void> PayoutBook::yield(const Lease& lease) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto written = db.execute(
        "UPDATE far_payout_leases SET expires_at = ?4 WHERE name = ?1 AND owner = ?2 AND epoch = "
        "?3",
        {lease.name, lease.owner, lease.epoch, store_->now()});
    return written ? Result<void>() : written.error();
  });
}

Result<void> PayoutBook::record(const Lease& lease, const StoredTransaction& transaction,
                                const std::vector<UserCharge>& charges, Far fee) {
  const std::string& id = transaction.batch_id;
  if (!is_uuid(id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) -> Result<void> {
    Result<void> step = check_lease(db, lease);
    if (!step) return step;
    const auto row = db.query_one<std::string>(
        "SELECT status FROM far_payment_batches WHERE id = ?1 {for update}", {id});
    if (!row) return row.error();
    if (!*row) return Error{Errc::not_found, "no such batch"};
    if (std::get<0>(**row) == "confirmed") {
      return Error{Errc::ledger_conflict, "the batch is confirmed"};
    }
    const LedgerTime now = store_->now();
    step = write_transaction(db, transaction, now);
    if (step) step = write_charges(db, id, charges, fee);
    if (!step) return step;
    const auto written = db.execute(
        "UPDATE far_payment_batches SET status = 'submitted', tx_hash = ?2, submitted_at = ?3, "
        "error_message = NULL WHERE id = ?1",
        {id, transaction.tx_hash, now});
    return written ? Result<void>() : written.error();
  });
}

Result<std::vector<StoredTransaction>> PayoutBook::transactions(const std::string& batch_id) {
  if (!is_uuid(batch_id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) -> Result<std::vector<StoredTransaction>> {
    const auto rows = db.query<std::string, std::uint64_t, std::string, std::uint64_t,
                               std::vector<std::uint8_t>, LedgerTime, std::string, Far>(
        "SELECT tx_hash, chain_id, sender, nonce, raw, created_at, operator_wallet, "
        "{operator_far} FROM far_payment_transactions WHERE batch_id = ?1 ORDER BY created_at, "
        "nonce, tx_hash",
        {batch_id});
    if (!rows) return rows.error();
    std::vector<StoredTransaction> all;
    for (const auto& [hash, chain, sender, nonce, raw, created_at, operator_wallet, operator_pay] :
         *rows) {
      all.push_back(
          {hash, batch_id, chain, sender, nonce, raw, created_at, operator_wallet, operator_pay});
    }
    return all;
  });
}

Result<std::optional<std::uint64_t>> PayoutBook::highest_nonce(std::uint64_t chain_id,
                                                               const std::string& sender,
                                                               const std::string& but_batch_id) {
  return store_->transact([&](Database& db) -> Result<std::optional<std::uint64_t>> {
    const auto row = db.query_one<std::optional<std::uint64_t>>(
        "SELECT max(t.nonce) FROM far_payment_transactions t JOIN far_payment_batches b ON b.id = "
        "t.batch_id WHERE b.status = 'submitted' AND t.chain_id = ?1 AND t.sender = ?2 AND "
        "t.batch_id <> ?3",
        {static_cast<std::int64_t>(chain_id), sender, batch_or_none(but_batch_id)});
    if (!row) return row.error();
    return std::get<0>(**row);
  });
}

Result<void> PayoutBook::set_errand(const Lease& lease, const StoredErrand& errand) {
  const Result<void> good = check_text(errand.what, kMaxReason, "errand");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const Result<void> mine = check_lease(db, lease);
    if (!mine) return mine;
    const auto written = db.execute(
        "INSERT INTO far_payout_errands (name, what, tx_hash, nonce, raw, created_at) VALUES (?1, "
        "?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO UPDATE SET what = excluded.what, tx_hash = "
        "excluded.tx_hash, nonce = excluded.nonce, raw = excluded.raw, created_at = "
        "excluded.created_at",
        {lease.name, errand.what, errand.tx_hash, static_cast<std::int64_t>(errand.nonce),
         Blob(errand.raw), store_->now()});
    return written ? Result<void>() : written.error();
  });
}

Result<std::optional<StoredErrand>> PayoutBook::errand(const Lease& lease) {
  return store_->transact([&](Database& db) -> Result<std::optional<StoredErrand>> {
    const auto row = db.query_one<std::string, std::string, std::uint64_t,
                                  std::vector<std::uint8_t>, LedgerTime>(
        "SELECT what, tx_hash, nonce, raw, created_at FROM far_payout_errands WHERE name = ?1",
        {lease.name});
    if (!row) return row.error();
    if (!*row) return std::optional<StoredErrand>();
    const auto& [what, hash, nonce, raw, created_at] = **row;
    return std::optional(StoredErrand{what, hash, nonce, raw, created_at});
  });
}

Result<void> PayoutBook::end_errand(const Lease& lease, const std::string& tx_hash) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto gone = db.execute("DELETE FROM far_payout_errands WHERE name = ?1 AND tx_hash = ?2",
                                 {lease.name, tx_hash});
    return gone ? Result<void>() : gone.error();
  });
}

Result<void> PayoutBook::set_charges(const std::string& batch_id,
                                     const std::vector<UserCharge>& charges, Far fee) {
  if (!is_uuid(batch_id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) { return write_charges(db, batch_id, charges, fee); });
}

Result<std::vector<UserCharge>> PayoutBook::charges(const std::string& batch_id) {
  if (!is_uuid(batch_id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) -> Result<std::vector<UserCharge>> {
    const auto rows = db.query<std::string, Far, std::string>(
        "SELECT account, {amount_far}, request_key FROM far_payment_charges WHERE batch_id = ?1 "
        "ORDER BY account, request_key",
        {batch_id});
    if (!rows) return rows.error();
    std::vector<UserCharge> charges;
    for (const auto& [account, amount, key] : *rows) charges.push_back({account, amount, key});
    return charges;
  });
}

Result<std::vector<UserCharge>> PayoutBook::debts(const std::string& but_batch_id) {
  return store_->transact([&](Database& db) -> Result<std::vector<UserCharge>> {
    const auto charged = db.query<std::string, Far>(
        "SELECT account, sum({amount_far}) FROM far_credit_entries e WHERE kind = 'charge' AND "
        "account LIKE '0x%' AND NOT EXISTS (SELECT 1 FROM far_escrow_reservations r WHERE "
        "r.request_id = e.reference) GROUP BY account");
    if (!charged) return charged.error();
    const auto settled = db.query<std::string, Far>(
        "SELECT account, sum({amount_far}) FROM far_payment_charges WHERE batch_id <> ?1 AND "
        "request_key = '' GROUP BY account",
        {batch_or_none(but_batch_id)});
    if (!settled) return settled.error();
    std::map<std::string, Far> taken;
    for (const auto& [account, amount] : *settled) taken[account] = amount;
    std::vector<UserCharge> debts;
    for (const auto& [account, amount] : *charged) {  // entries of charges are negative
      const std::optional<Far> due = Far().minus(amount);
      const std::optional<Far> left = due ? due->minus(taken[account]) : std::nullopt;
      if (left && *left > Far()) debts.push_back({account, *left, {}});
    }
    std::ranges::stable_sort(debts, std::greater<>(), &UserCharge::amount);
    return debts;
  });
}

Result<Far> PayoutBook::fees_due(const std::string& but_batch_id) {
  return store_->transact([&](Database& db) -> Result<Far> {
    const auto earned = db.query_one<Far>(
        "SELECT coalesce(sum({platform_fee_far}), 0) FROM far_mesh_sessions WHERE status <> "
        "'active'");
    if (!earned) return earned.error();
    const auto taken = db.query_one<Far>(
        "SELECT coalesce(sum({fee_far}), 0) FROM far_payment_batches WHERE id <> ?1",
        {batch_or_none(but_batch_id)});
    if (!taken) return taken.error();
    const std::optional<Far> due = std::get<0>(**earned).minus(std::get<0>(**taken));
    return due && *due > Far() ? *due : Far();
  });
}

Result<Far> PayoutBook::operator_due(const std::string& but_batch_id) {
  const auto owing = debts(but_batch_id);
  const auto fees = owing ? fees_due(but_batch_id) : owing.error();
  if (!fees) return fees.error();
  return store_->transact([&](Database& db) -> Result<Far> {
    // On reservations; and what nodes have earned that no other batch has charged users for.
    const auto reserved = db.query_one<Far>(
        "SELECT coalesce(sum({r.cost_far}), 0) FROM far_escrow_reservations r WHERE r.status IN "
        "('served', 'authorized') AND NOT EXISTS (SELECT 1 FROM far_payment_charges c WHERE "
        "c.request_key = r.request_key AND c.batch_id <> ?1)",
        {batch_or_none(but_batch_id)});
    if (!reserved) return reserved.error();
    const auto unpaid = db.query_one<Far>(
        "SELECT coalesce(sum({payment_far}), 0) FROM far_session_contributions WHERE paid_at IS "
        "NULL");
    if (!unpaid) return unpaid.error();
    const auto under_way = db.query_one<Far>(
        "SELECT coalesce(sum({i.amount_far}), 0) FROM far_payment_items i WHERE i.status = "
        "'pending' AND i.paying_batch_id <> ?1 AND EXISTS (SELECT 1 FROM far_payment_charges c "
        "WHERE c.batch_id = i.paying_batch_id)",
        {batch_or_none(but_batch_id)});
    if (!under_way) return under_way.error();
    std::optional<Far> due = std::get<0>(**reserved).plus(std::get<0>(**under_way));
    for (const UserCharge& debt : *owing) {
      if (due) due = due->plus(debt.amount);
    }
    for (const Far claim : {std::get<0>(**unpaid), *fees}) {
      if (due) due = due->minus(claim);
    }
    if (!due) return Error{Errc::amount_invalid, "debts beyond the largest amount"};
    return *due > Far() ? *due : Far();
  });
}

Result<Far> PayoutBook::operator_paid() {
  return store_->transact([&](Database& db) -> Result<Far> {
    const auto row = db.query_one<Far>(
        "SELECT coalesce(sum({t.operator_far}), 0) FROM far_payment_transactions t JOIN "
        "far_payment_batches b ON b.tx_hash = t.tx_hash WHERE b.status = 'confirmed'");
    return row ? Result<Far>(std::get<0>(**row)) : row.error();
  });
}

Result<std::optional<std::string>> PayoutBook::paused() {
  return store_->transact([&](Database& db) -> Result<std::optional<std::string>> {
    const auto row = db.query_one<std::string>(
        "SELECT value FROM far_payout_settings WHERE name = ?1", {std::string_view(kPaused)});
    if (!row) return row.error();
    return *row ? std::optional(std::get<0>(**row)) : std::nullopt;
  });
}

Result<void> PayoutBook::pause(const std::string& why) {
  const Result<void> good = check_text(why, kMaxReason, "reason");
  if (!good) return good;
  return store_->transact([&](Database& db) { return put_setting(db, kPaused, why); });
}

Result<void> PayoutBook::resume() {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto gone =
        db.execute("DELETE FROM far_payout_settings WHERE name = ?1", {std::string_view(kPaused)});
    return gone ? Result<void>() : gone.error();
  });
}

Result<std::optional<LedgerTime>> PayoutBook::last_run(const std::string& name) {
  return store_->transact([&](Database& db) -> Result<std::optional<LedgerTime>> {
    const auto row =
        db.query_one<std::string>("SELECT value FROM far_payout_settings WHERE name = ?1", {name});
    if (!row) return row.error();
    return *row ? parse_time(std::get<0>(**row)) : std::nullopt;
  });
}

Result<void> PayoutBook::set_last_run(const std::string& name, LedgerTime when) {
  const Result<void> good = check_text(name, kMaxName, "schedule");
  if (!good) return good;
  return store_->transact([&](Database& db) { return put_setting(db, name, to_text(when)); });
}

}  // namespace farmesh::ledger
