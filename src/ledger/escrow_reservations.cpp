#include "ledger/escrow_reservations.hpp"

#include <array>

#include "ledger/checks.hpp"
#include "ledger/credits.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::size_t kMaxId = 255;
constexpr std::size_t kMaxKey = 66;
constexpr std::size_t kMaxAccount = 42;
constexpr std::size_t kMaxSignature = 1'024;
constexpr std::size_t kMaxReason = 255;

constexpr std::array kStatuses = {
    ReservationStatus::signed_for, ReservationStatus::open,    ReservationStatus::served,
    ReservationStatus::authorized, ReservationStatus::settled, ReservationStatus::returned,
    ReservationStatus::refused,
};

constexpr std::string_view kColumns =
    "SELECT request_id, request_key, account, {amount_far}, deadline, signature, status, "
    "{cost_far}, seen_block, reason FROM far_escrow_reservations ";

Result<std::vector<EscrowReservation>> load(Database& db, std::string_view where,
                                            Values values = {}) {
  const auto rows =
      db.query<std::string, std::string, std::string, Far, LedgerTime, std::vector<std::uint8_t>,
               std::string, Far, std::optional<std::uint64_t>, std::optional<std::string>>(
          std::string(kColumns) + std::string(where), values);
  if (!rows) return rows.error();
  std::vector<EscrowReservation> all;
  for (const auto& [id, key, account, amount, deadline, signature, status, cost, block, reason] :
       *rows) {
    EscrowReservation& one = all.emplace_back();
    one = {id,
           key,
           account,
           amount,
           deadline,
           signature,
           ReservationStatus::signed_for,
           cost,
           block,
           reason.value_or("")};
    bool known = false;
    for (const ReservationStatus each : kStatuses) {
      if (name(each) != status) continue;
      one.status = each;
      known = true;
    }
    if (!known) return Error{Errc::ledger_damaged, "a reservation has an unknown status"};
  }
  return all;
}

Result<void> set_status(Database& db, const std::string& request_id, ReservationStatus from,
                        ReservationStatus to, LedgerTime now) {
  const auto written = db.execute(
      "UPDATE far_escrow_reservations SET status = ?2, seen_block = NULL, updated_at = ?3 WHERE "
      "request_id = ?1 AND status = ?4",
      {request_id, name(to), now, name(from)});
  return written ? Result<void>() : written.error();
}

bool same(const EscrowReservation& a, const EscrowReservation& b) {
  return a.request_key == b.request_key && a.account == b.account && a.amount == b.amount &&
         a.deadline == b.deadline && a.signature == b.signature;
}

Result<void> check(const EscrowReservation& reservation) {
  Result<void> good = check_text(reservation.request_id, kMaxId, "request_id");
  if (good) good = check_text(reservation.request_key, kMaxKey, "request_key");
  if (good) good = check_text(reservation.account, kMaxAccount, "account");
  if (good && (reservation.signature.empty() || reservation.signature.size() > kMaxSignature)) {
    good = Error{Errc::invalid_argument, "a signature has 1 to 1,024 bytes"};
  }
  if (good && !(reservation.amount > Far())) {
    good = Error{Errc::amount_invalid, "a reservation of nothing"};
  }
  return good;
}

Result<void> check_number(Database& db, const std::string& account, std::size_t at_once) {
  const auto row = db.query_one<std::int64_t>(
      "SELECT count(*) FROM far_escrow_reservations WHERE status IN ('signed', 'open') AND "
      "account = ?1",
      {account});
  if (!row) return row.error();
  if (std::get<0>(**row) < static_cast<std::int64_t>(at_once)) return {};
  return Error{Errc::quota, "this account has " + std::to_string(at_once) +
                                " reservations that wait to be served"};
}

bool is_live(ReservationStatus status) {
  return status != ReservationStatus::settled && status != ReservationStatus::returned &&
         status != ReservationStatus::refused;
}

}  // namespace

std::string_view name(ReservationStatus status) noexcept {
  switch (status) {
    case ReservationStatus::signed_for: return "signed";
    case ReservationStatus::open: return "open";
    case ReservationStatus::served: return "served";
    case ReservationStatus::authorized: return "authorized";
    case ReservationStatus::settled: return "settled";
    case ReservationStatus::returned: return "returned";
    case ReservationStatus::refused: return "refused";
  }
  return "?";
}

Result<EscrowReservation> EscrowReservations::sign(const EscrowReservation& reservation,
                                                   std::size_t at_once) {
  const Result<void> good = check(reservation);
  if (!good) return good.error();
  return store_->transact([&](Database& db) -> Result<EscrowReservation> {
    const LedgerTime now = store_->now();
    const auto before = locked_escrow_reservation(db, reservation.request_id);
    if (!before) return before.error();
    if (*before) {
      if (same(**before, reservation)) return **before;
      return Error{Errc::ledger_conflict, "this request has another reservation"};
    }
    const auto reserved = reserve_credit(db, reservation.account, reservation.request_id,
                                         reservation.amount, Source::escrow, now);
    if (!reserved) return reserved.error();
    const Result<void> few = check_number(db, reservation.account, at_once);
    if (!few) return few.error();
    const auto written = db.execute(
        "INSERT INTO far_escrow_reservations (request_id, request_key, account, {amount_far}, "
        "deadline, signature, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        {reservation.request_id, reservation.request_key, reservation.account, reservation.amount,
         reservation.deadline, Blob(reservation.signature), now, now});
    if (!written) return written.error();
    EscrowReservation made = reservation;
    made.status = ReservationStatus::signed_for;
    return made;
  });
}

Result<EscrowReservation> EscrowReservations::find(const std::string& request_id) {
  return store_->transact([&](Database& db) -> Result<EscrowReservation> {
    auto found = load(db, "WHERE request_id = ?1", {request_id});
    if (!found) return found.error();
    if (found->empty()) return Error{Errc::not_found, "this request has no reservation"};
    return std::move(found->front());
  });
}

Result<std::vector<EscrowReservation>> EscrowReservations::to_do(LedgerTime now,
                                                                 std::size_t limit) {
  return store_->transact([&](Database& db) {
    return load(db,
                "WHERE status IN ('signed', 'served') OR (status IN ('open', 'authorized') AND "
                "deadline <= ?1) ORDER BY deadline, request_id LIMIT ?2",
                {now, static_cast<std::int64_t>(limit)});
  });
}

Result<std::vector<EscrowReservation>> EscrowReservations::to_charge(const std::string& batch_id) {
  if (!is_uuid(batch_id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) {
    return load(db,
                "r WHERE status IN ('served', 'authorized') AND {cost_far} > 0 AND NOT EXISTS "
                "(SELECT 1 FROM far_payment_charges c WHERE c.request_key = r.request_key AND "
                "c.batch_id <> ?1) ORDER BY deadline, request_id",
                {batch_id});
  });
}

Result<std::optional<LedgerTime>> EscrowReservations::first_end(LedgerTime from) {
  return store_->transact([&](Database& db) -> Result<std::optional<LedgerTime>> {
    const auto row = db.query_one<LedgerTime>(
        "SELECT r.deadline FROM far_escrow_reservations r WHERE r.status = 'authorized' AND "
        "r.deadline > ?1 AND NOT EXISTS (SELECT 1 FROM far_payment_charges c WHERE c.request_key = "
        "r.request_key) ORDER BY r.deadline LIMIT 1",
        {from});
    if (!row) return row.error();
    return *row ? std::optional(std::get<0>(**row)) : std::nullopt;
  });
}

Result<std::vector<EscrowReservation>> EscrowReservations::live() {
  return store_->transact([&](Database& db) {
    return load(db,
                "WHERE status IN ('signed', 'open', 'served', 'authorized') ORDER BY deadline, "
                "request_id");
  });
}

Result<bool> EscrowReservations::is_in_batch(const std::string& request_key) {
  return store_->transact([&](Database& db) -> Result<bool> {
    const auto row = db.query_one<std::string>(
        "SELECT b.id FROM far_payment_charges c JOIN far_payment_batches b ON b.id = c.batch_id "
        "WHERE c.request_key = ?1 AND b.status <> 'failed' LIMIT 1",
        {request_key});
    return row ? Result<bool>(row->has_value()) : row.error();
  });
}

Result<void> EscrowReservations::saw(const std::string& request_id,
                                     std::optional<std::uint64_t> block) {
  return store_->transact([&](Database& db) -> Result<void> {
    const Value seen = block ? Value(static_cast<std::int64_t>(*block)) : Value(nullptr);
    const auto written =
        db.execute("UPDATE far_escrow_reservations SET seen_block = ?2 WHERE request_id = ?1",
                   {request_id, seen});
    return written ? Result<void>() : written.error();
  });
}

Result<void> EscrowReservations::opened(const std::string& request_id) {
  return store_->transact([&](Database& db) {
    return set_status(db, request_id, ReservationStatus::signed_for, ReservationStatus::open,
                      store_->now());
  });
}

Result<void> EscrowReservations::authorized(const std::string& request_id, LedgerTime deadline) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto moved = db.execute(
        "UPDATE far_escrow_reservations SET deadline = ?2 WHERE request_id = ?1 AND "
        "status = 'served'",
        {request_id, deadline});
    if (!moved) return moved.error();
    return set_status(db, request_id, ReservationStatus::served, ReservationStatus::authorized,
                      store_->now());
  });
}

Result<void> EscrowReservations::returned(const std::string& request_id,
                                          const std::string& reason) {
  return end(request_id, ReservationStatus::returned, reason);
}

Result<void> EscrowReservations::refused(const std::string& request_id, const std::string& reason) {
  return end(request_id, ReservationStatus::refused, reason);
}

// The escrow holds nothing for the request any more: nor does the ledger, and what was charged for
// it here is the user's again.
Result<void> EscrowReservations::end(const std::string& request_id, ReservationStatus status,
                                     const std::string& reason) {
  return store_->transact([&](Database& db) -> Result<void> {
    const LedgerTime now = store_->now();
    const auto found = locked_escrow_reservation(db, request_id);
    if (!found) return found.error();
    if (!*found) return Error{Errc::not_found, "this request has no reservation"};
    if (!is_live((*found)->status)) return {};
    const auto written = db.execute(
        "UPDATE far_escrow_reservations SET status = ?2, reason = ?3, updated_at = ?4 WHERE "
        "request_id = ?1",
        {request_id, name(status), or_null(reason.substr(0, kMaxReason)), now});
    if (!written) return written.error();
    const Result<void> released = release_credit(db, request_id, now);
    if (!released || (*found)->cost.is_zero()) return released;
    return refund_credit(db, (*found)->account, (*found)->cost, request_id, now);
  });
}

Result<std::optional<EscrowReservation>> locked_escrow_reservation(Database& db,
                                                                   const std::string& request_id) {
  auto found = load(db, "WHERE request_id = ?1 {for update}", {request_id});
  if (!found) return found.error();
  if (found->empty()) return std::optional<EscrowReservation>();
  return std::optional(std::move(found->front()));
}

Result<void> escrow_reservation_served(Database& db, const std::string& request_id, Far cost,
                                       LedgerTime now) {
  const auto written = db.execute(
      "UPDATE far_escrow_reservations SET status = 'served', {cost_far} = ?2, seen_block = NULL, "
      "updated_at = ?3 WHERE request_id = ?1 AND status IN ('signed', 'open')",
      {request_id, cost, now});
  return written ? Result<void>() : written.error();
}

Result<void> escrow_reservations_settled(Database& db, const std::string& batch_id, bool settled,
                                         LedgerTime now) {
  const ReservationStatus from =
      settled ? ReservationStatus::authorized : ReservationStatus::settled;
  const ReservationStatus to = settled ? ReservationStatus::settled : ReservationStatus::authorized;
  // One that was charged before its authorisation was deep enough is settled all the same.
  const auto written = db.execute(
      "UPDATE far_escrow_reservations SET status = ?1, seen_block = NULL, updated_at = ?2 WHERE "
      "(status = ?3 OR status = ?4) AND request_key IN (SELECT request_key FROM "
      "far_payment_charges WHERE batch_id = ?5 AND request_key <> '')",
      {name(to), now, name(from), name(settled ? ReservationStatus::served : from), batch_id});
  return written ? Result<void>() : written.error();
}

}  // namespace farmesh::ledger
