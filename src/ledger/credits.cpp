#include "ledger/credits.hpp"

#include <algorithm>

#include "ledger/checks.hpp"
#include "ledger/escrow_reservations.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::size_t kMaxAccount = 42;
constexpr std::size_t kMaxReference = 255;

Result<void> check(const std::string& account, Far amount, const std::string& reference) {
  Result<void> good = check_text(account, kMaxAccount, "account");
  if (good) good = check_text(reference, kMaxReference, "reference");
  if (good && amount.is_negative()) good = Error{Errc::amount_invalid, "a negative amount"};
  return good;
}

/// The account, locked until the transaction ends; made when it is new.
Result<CreditAccount> locked_account(Database& db, const std::string& account, LedgerTime now) {
  const auto made = db.execute(
      "INSERT INTO far_credit_accounts (account, updated_at) VALUES (?1, ?2) "
      "ON CONFLICT (account) DO NOTHING",
      {account, now});
  if (!made) return made.error();
  const auto row = db.query_one<Far, Far, Far>(
      "SELECT {balance_far}, {reserved_far}, {leaving_far} FROM far_credit_accounts WHERE "
      "account = ?1 {for update}",
      {account});
  if (!row) return row.error();
  if (!*row) return Error{Errc::ledger_damaged, "an account vanished"};
  return CreditAccount{account, std::get<0>(**row), std::get<1>(**row), std::get<2>(**row)};
}

Result<void> write_account(Database& db, const CreditAccount& account, LedgerTime now) {
  const auto written = db.execute(
      "UPDATE far_credit_accounts SET {balance_far} = ?2, {reserved_far} = ?3, updated_at = ?4 "
      "WHERE account = ?1",
      {account.account, account.balance, account.reserved, now});
  return written ? Result<void>() : written.error();
}

/// 1 when the entry is new, 0 when this reference moved money before.
Result<std::int64_t> add_entry(Database& db, const std::string& account, std::string_view kind,
                               Far amount, const std::string& reference, LedgerTime now) {
  return db.execute(
      "INSERT INTO far_credit_entries (account, kind, {amount_far}, reference, created_at) "
      "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (kind, reference) DO NOTHING",
      {account, kind, amount, reference, now});
}

Result<void> same_movement(Database& db, const std::string& account, std::string_view kind,
                           Far amount, const std::string& reference) {
  const auto row = db.query_one<std::string, Far>(
      "SELECT account, {amount_far} FROM far_credit_entries WHERE kind = ?1 AND reference = ?2",
      {kind, reference});
  if (!row) return row.error();
  if (*row && std::get<0>(**row) == account && std::get<1>(**row) == amount) return {};
  return Error{Errc::ledger_conflict, "this reference has moved another amount"};
}

struct Reservation {
  std::string account;
  Far amount;
  std::string status;
};

Result<std::optional<Reservation>> locked_reservation(Database& db, const std::string& request_id) {
  const auto row = db.query_one<std::string, Far, std::string>(
      "SELECT account, {amount_far}, status FROM far_credit_reservations WHERE request_id = ?1 "
      "{for update}",
      {request_id});
  if (!row) return row.error();
  if (!*row) return std::optional<Reservation>();
  return std::optional(Reservation{std::get<0>(**row), std::get<1>(**row), std::get<2>(**row)});
}

Result<void> close_reservation(Database& db, const std::string& request_id, std::string_view status,
                               Far charged, LedgerTime now) {
  const auto written = db.execute(
      "UPDATE far_credit_reservations SET status = ?2, {charged_far} = ?3, closed_at = ?4 "
      "WHERE request_id = ?1 AND status = 'open'",
      {request_id, status, charged, now});
  return written ? Result<void>() : written.error();
}

}  // namespace

Result<CreditAccount> Credits::account(const std::string& account) {
  return store_->transact([&](Database& db) -> Result<CreditAccount> {
    const auto row = db.query_one<Far, Far, Far>(
        "SELECT {balance_far}, {reserved_far}, {leaving_far} FROM far_credit_accounts WHERE "
        "account = ?1",
        {account});
    if (!row) return row.error();
    if (!*row) return CreditAccount{account, {}, {}, {}};
    return CreditAccount{account, std::get<0>(**row), std::get<1>(**row), std::get<2>(**row)};
  });
}

Result<CreditAccount> Credits::deposit(const std::string& account, Far amount,
                                       const std::string& reference) {
  const Result<void> good = check(account, amount, reference);
  return good ? move(account, amount, "deposit", reference) : good.error();
}

Result<CreditAccount> Credits::withdraw(const std::string& account, Far amount,
                                        const std::string& reference) {
  const Result<void> good = check(account, amount, reference);
  return good ? move(account, *Far().minus(amount), "withdrawal", reference) : good.error();
}

Result<CreditAccount> Credits::move(const std::string& account, Far amount, const std::string& kind,
                                    const std::string& reference) {
  return store_->transact([&](Database& db) -> Result<CreditAccount> {
    const LedgerTime now = store_->now();
    Result<CreditAccount> row = locked_account(db, account, now);
    if (!row) return row;
    const auto is_new = add_entry(db, account, kind, amount, reference, now);
    if (!is_new) return is_new.error();
    if (*is_new == 0) {
      const Result<void> same = same_movement(db, account, kind, amount, reference);
      return same ? row : same.error();
    }
    const std::optional<Far> balance = row->balance.plus(amount);
    if (!balance) return Error{Errc::amount_invalid, "the balance would be too large"};
    if (*balance < row->reserved) return Error{Errc::insufficient_credit, "not enough credit"};
    row->balance = *balance;
    const Result<void> written = write_account(db, *row, now);
    return written ? row : written.error();
  });
}

Result<void> Credits::set_leaving(const std::string& account, Far amount) {
  const Result<void> good = check(account, amount, account);
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto row = locked_account(db, account, store_->now());
    if (!row) return row.error();
    const auto written = db.execute(
        "UPDATE far_credit_accounts SET {leaving_far} = ?2 WHERE account = ?1", {account, amount});
    return written ? Result<void>() : written.error();
  });
}

Result<CreditAccount> Credits::reserve(const std::string& account, const std::string& request_id,
                                       Far amount) {
  const Result<void> good = check(account, amount, request_id);
  if (!good) return good.error();
  return store_->transact([&](Database& db) -> Result<CreditAccount> {
    const LedgerTime now = store_->now();
    const auto on_chain = locked_escrow_reservation(db, request_id);
    if (!on_chain) return on_chain.error();
    if (!*on_chain) return reserve_credit(db, account, request_id, amount, Source::credit, now);
    const EscrowReservation& signed_for = **on_chain;
    if (signed_for.account != account || signed_for.status != ReservationStatus::open) {
      return Error{Errc::ledger_conflict, "the reservation of this request is " +
                                              std::string(name(signed_for.status)) +
                                              ", not open on chain"};
    }
    if (amount > signed_for.amount) {
      return Error{Errc::insufficient_credit, "more than was signed for this request"};
    }
    return locked_account(db, account, now);
  });
}

Result<void> Credits::release(const std::string& request_id) {
  return store_->transact([&](Database& db) -> Result<void> {
    const LedgerTime now = store_->now();
    const auto found = locked_reservation(db, request_id);
    if (!found) return found.error();
    if (!*found) return Error{Errc::not_found, "no such reservation"};
    const Result<void> released = release_credit(db, request_id, now);
    return released ? escrow_reservation_served(db, request_id, Far(), now) : released;
  });
}

Result<CreditAccount> reserve_credit(Database& db, const std::string& account,
                                     const std::string& request_id, Far amount, Source source,
                                     LedgerTime now) {
  // The account first: whoever reserves for the same request at once waits here.
  Result<CreditAccount> row = locked_account(db, account, now);
  if (!row) return row;
  const auto before = locked_reservation(db, request_id);
  if (!before) return before.error();
  if (*before) {
    const Reservation& made = **before;
    const bool same = made.account == account && made.amount == amount && made.status == "open";
    if (same) return row;
    return Error{Errc::ledger_conflict, "this request has reserved before"};
  }
  const Far free = source == Source::credit ? row->available() : row->unreserved();
  if (amount > free) return Error{Errc::insufficient_credit, "not enough credit"};
  row->reserved = *row->reserved.plus(amount);
  const auto made = db.execute(
      "INSERT INTO far_credit_reservations (request_id, account, {amount_far}, created_at) "
      "VALUES (?1, ?2, ?3, ?4)",
      {request_id, account, amount, now});
  if (!made) return made.error();
  const Result<void> written = write_account(db, *row, now);
  return written ? row : written.error();
}

Result<void> release_credit(Database& db, const std::string& request_id, LedgerTime now) {
  const auto found = locked_reservation(db, request_id);
  if (!found) return found.error();
  if (!*found || (*found)->status != "open") return {};
  Result<CreditAccount> row = locked_account(db, (*found)->account, now);
  if (!row) return row.error();
  row->reserved = *row->reserved.minus((*found)->amount);
  const Result<void> closed = close_reservation(db, request_id, "released", Far(), now);
  return closed ? write_account(db, *row, now) : closed;
}

Result<void> refund_credit(Database& db, const std::string& account, Far amount,
                           const std::string& request_id, LedgerTime now) {
  Result<CreditAccount> row = locked_account(db, account, now);
  if (!row) return row.error();
  const auto entry = add_entry(db, account, "refund", amount, request_id, now);
  if (!entry) return entry.error();
  if (*entry == 0) return {};
  const std::optional<Far> balance = row->balance.plus(amount);
  if (!balance) return Error{Errc::amount_invalid, "the balance would be too large"};
  row->balance = *balance;
  return write_account(db, *row, now);
}

Result<Far> settle_reservation(Database& db, const std::string& request_id, Far cost,
                               LedgerTime now) {
  const auto found = locked_reservation(db, request_id);
  if (!found) return found.error();
  if (!*found) return Far();  // nobody prepaid
  const auto on_chain = locked_escrow_reservation(db, request_id);
  if (!on_chain) return on_chain.error();
  if ((*found)->status != "open") return *on_chain ? cost : Far();  // too late: its user has it
  Result<CreditAccount> row = locked_account(db, (*found)->account, now);
  if (!row) return row.error();
  row->reserved = *row->reserved.minus((*found)->amount);
  const Far charge = std::min(cost, *on_chain ? (*found)->amount : row->unreserved());
  row->balance = *row->balance.minus(charge);
  const auto entry = charge.is_zero() ? Result<std::int64_t>(1)
                                      : add_entry(db, row->account, "charge", *Far().minus(charge),
                                                  request_id, now);
  if (!entry) return entry.error();
  if (*entry != 1) return Error{Errc::ledger_damaged, "a request was charged before it ended"};
  Result<void> step = close_reservation(db, request_id, "settled", charge, now);
  if (step && *on_chain) step = escrow_reservation_served(db, request_id, charge, now);
  if (step) step = write_account(db, *row, now);
  if (!step) return step.error();
  return *cost.minus(charge);
}

}  // namespace farmesh::ledger
