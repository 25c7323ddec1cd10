#include "ledger/payment_batches.hpp"

#include <algorithm>

#include "ledger/checks.hpp"
#include "ledger/escrow_reservations.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::int64_t kClaimLock = 0x6661726d65736802;  // "farmesh", 2
constexpr std::size_t kMaxHash = 66;
constexpr std::size_t kMaxReason = 255;
constexpr std::size_t kMaxWallet = 42;

std::optional<BatchStatus> status_of(std::string_view text) {
  for (const auto status : {BatchStatus::pending, BatchStatus::submitted, BatchStatus::confirmed,
                            BatchStatus::failed}) {
    if (name(status) == text) return status;
  }
  return std::nullopt;
}

// Work of nodes that had no wallet yet.
Result<void> fill_in_wallets(Database& db) {
  const auto filled = db.execute(
      "UPDATE far_session_contributions SET wallet_address = (SELECT n.wallet_address FROM "
      "far_nodes n WHERE n.id = far_session_contributions.node_id) WHERE wallet_address IS NULL "
      "AND batch_id IS NULL AND paid_at IS NULL AND EXISTS (SELECT 1 FROM far_nodes n WHERE "
      "n.id = far_session_contributions.node_id AND n.wallet_address <> '')");
  return filled ? Result<void>() : filled.error();
}

using Sums = std::vector<std::tuple<std::string, Far>>;  // wallet, amount

// IS TRUE keeps PostgreSQL from joining: without statistics it would look through all items for
// each row, and the answer of a set that was hashed once is the same.
constexpr const char* kTake =
    "UPDATE far_session_contributions SET batch_id = ?1 WHERE batch_id IS NULL AND paid_at IS "
    "NULL AND created_at <= ?2 AND (wallet_address IN (SELECT wallet_address FROM "
    "far_payment_items WHERE batch_id = ?3)) IS TRUE";
constexpr const char* kTakenSums =
    " RETURNING wallet_address, {payment_far}) SELECT wallet_address, sum({payment_far}) FROM "
    "taken GROUP BY wallet_address";

/// Where nobody else can write meanwhile, what was chosen is what is taken: nothing to mend.
Result<Sums> take_alone(Database& db, const std::string& id, LedgerTime payable_before) {
  const auto taken = db.execute(kTake, {id, payable_before, id});
  return taken ? Result<Sums>(Sums()) : taken.error();
}

/// Gives the chosen wallets' work to the batch. The items are written before, because they say
/// which wallets; their amounts after, because only rows that are in the batch count.
Result<void> take_work(Database& db, const std::string& id, const Sums& chosen,
                       LedgerTime payable_before) {
  for (const auto& [wallet, amount] : chosen) {
    const auto made = db.execute(
        "INSERT INTO far_payment_items (batch_id, wallet_address, {amount_far}, paying_batch_id) "
        "VALUES (?1, ?2, ?3, ?4)",
        {id, wallet, amount, id});
    if (!made) return made.error();
  }
  const auto sums =
      db.dialect() == Dialect::postgres
          ? db.query<std::string, Far>(std::string("WITH taken AS (") + kTake + kTakenSums,
                                       {id, payable_before, id})
          : take_alone(db, id, payable_before);
  if (!sums) return sums.error();
  for (const auto& sum : *sums) {
    if (std::ranges::find(chosen, sum) != chosen.end()) continue;
    const auto mended = db.execute(
        "UPDATE far_payment_items SET {amount_far} = ?3 WHERE batch_id = ?1 AND "
        "wallet_address = ?2",
        {id, std::get<0>(sum), std::get<1>(sum)});
    if (!mended) return mended.error();
  }
  return {};
}

/// The wallets whose work is due, largest amounts first.
Result<Sums> choose(Database& db, const ClaimOptions& options) {
  const Far minimum = std::max(options.minimum, Far::from_units(1));
  const LedgerTime dust_before = options.dust_before.value_or(LedgerTime());
  const auto due = db.query<std::string, Far>(
      "SELECT wallet_address, sum({payment_far}) FROM far_session_contributions WHERE batch_id "
      "IS NULL AND paid_at IS NULL AND wallet_address <> '' AND created_at <= ?1 GROUP BY "
      "wallet_address HAVING sum({payment_far}) >= ?2 OR (sum({payment_far}) > 0 AND "
      "min(created_at) <= ?3) ORDER BY 2 DESC, 1 LIMIT ?4",
      {options.payable_before, minimum, dust_before,
       static_cast<std::int64_t>(options.max_wallets)});
  if (!due) return due.error();
  Sums chosen;
  Far total;
  for (const auto& [wallet, amount] : *due) {
    const std::optional<Far> with = total.plus(amount);
    // A sum that no amount can hold is two batches.
    if (!with || (options.max_total && *with > *options.max_total)) continue;
    total = *with;
    chosen.emplace_back(wallet, amount);
  }
  return chosen;
}

Result<void> write_totals(Database& db, const std::string& id) {
  const auto written = db.execute(
      "UPDATE far_payment_batches SET {total_amount_far} = coalesce((SELECT sum({amount_far}) "
      "FROM far_payment_items WHERE paying_batch_id = ?1), 0), total_nodes = (SELECT "
      "count(DISTINCT c.node_id) FROM far_session_contributions c WHERE c.paid_at IS NULL AND "
      "c.batch_id = ?2) WHERE id = ?3",
      {id, id, id});
  return written ? Result<void>() : written.error();
}

Result<PaymentBatch> load_batch(Database& db, const std::string& id) {
  const auto row = db.query_one<std::string, Far, std::string, std::string, LedgerTime>(
      "SELECT status, {total_amount_far}, tx_hash, error_message, created_at FROM "
      "far_payment_batches WHERE id = ?1",
      {id});
  if (!row) return row.error();
  if (!*row) return Error{Errc::not_found, "no such batch"};
  PaymentBatch batch;
  batch.id = id;
  std::string status;
  std::tie(status, batch.total, batch.tx_hash, batch.error_message, batch.created_at) = **row;
  const auto known = status_of(status);
  if (!known) return Error{Errc::ledger_damaged, "a batch has an unknown status"};
  batch.status = *known;
  const auto items = db.query<std::string, std::string, Far>(
      "SELECT batch_id, wallet_address, {amount_far} FROM far_payment_items WHERE "
      "paying_batch_id = ?1 ORDER BY wallet_address, batch_id",
      {id});
  if (!items) return items.error();
  for (const auto& [origin, wallet, amount] : *items)
    batch.items.push_back({origin, wallet, amount});
  return batch;
}

/// Status and hash of a batch, locked until the transaction ends.
Result<std::tuple<BatchStatus, std::string>> lock_batch(Database& db, const std::string& id) {
  if (!is_uuid(id)) return Error{Errc::not_found, "no such batch"};
  const auto row = db.query_one<std::string, std::string>(
      "SELECT status, tx_hash FROM far_payment_batches WHERE id = ?1 {for update}", {id});
  if (!row) return row.error();
  if (!*row) return Error{Errc::not_found, "no such batch"};
  const auto status = status_of(std::get<0>(**row));
  if (!status) return Error{Errc::ledger_damaged, "a batch has an unknown status"};
  return std::tuple(*status, std::get<1>(**row));
}

Result<void> pay_items(Database& db, const std::string& id, const std::string& tx_hash,
                       LedgerTime now) {
  const auto paid = db.execute(
      "UPDATE far_session_contributions SET payment_tx_hash = ?1, paid_at = ?2 WHERE paid_at IS "
      "NULL AND batch_id IN (SELECT batch_id FROM far_payment_items WHERE paying_batch_id = ?3) "
      "AND ((batch_id, wallet_address) IN (SELECT batch_id, wallet_address FROM "
      "far_payment_items WHERE paying_batch_id = ?4)) IS TRUE",
      {tx_hash, now, id, id});
  if (!paid) return paid.error();
  const auto items =
      db.execute("UPDATE far_payment_items SET status = 'paid' WHERE paying_batch_id = ?1", {id});
  return items ? Result<void>() : items.error();
}

}  // namespace

std::string_view name(BatchStatus status) noexcept {
  switch (status) {
    case BatchStatus::pending: return "pending";
    case BatchStatus::submitted: return "submitted";
    case BatchStatus::confirmed: return "confirmed";
    case BatchStatus::failed: return "failed";
  }
  return "?";
}

Result<std::optional<PaymentBatch>> PaymentBatches::claim(const ClaimOptions& options) {
  using Claimed = std::optional<PaymentBatch>;
  const std::string id = new_uuid();
  return store_->transact([&](Database& db) -> Result<Claimed> {
    // One payer at a time: a wallet's work is not torn between two that each find it too little.
    Result<void> step = db.lock(kClaimLock);
    if (step) step = fill_in_wallets(db);
    if (!step) return step.error();
    // Written by an attempt whose answer was lost.
    const auto before =
        db.query_one<std::string>("SELECT id FROM far_payment_batches WHERE id = ?1", {id});
    if (!before) return before.error();
    if (*before) {
      Result<PaymentBatch> batch = load_batch(db, id);
      return batch ? Result<Claimed>(std::move(*batch)) : batch.error();
    }
    const Result<Sums> chosen = choose(db, options);
    if (!chosen) return chosen.error();
    const auto released = db.query<std::string>(
        "SELECT batch_id FROM far_payment_items WHERE paying_batch_id IS NULL AND "
        "status = 'pending' LIMIT 1");
    if (!released) return released.error();
    if (chosen->empty() && released->empty() && !options.even_empty) return Claimed();
    const auto made = db.execute(
        "INSERT INTO far_payment_batches (id, status, total_nodes, {total_amount_far}, created_at) "
        "VALUES (?1, 'pending', 0, ?2, ?3)",
        {id, Far(), store_->now()});
    if (!made) return made.error();
    step = take_work(db, id, *chosen, options.payable_before);
    if (!step) return step.error();
    const auto carried = db.execute(
        "UPDATE far_payment_items SET paying_batch_id = ?1 WHERE paying_batch_id IS NULL AND "
        "status = 'pending'",
        {id});
    if (!carried) return carried.error();
    step = write_totals(db, id);
    if (!step) return step.error();
    Result<PaymentBatch> batch = load_batch(db, id);
    return batch ? Result<Claimed>(std::move(*batch)) : batch.error();
  });
}

Result<std::vector<Payable>> PaymentBatches::payable(const ClaimOptions& options) {
  return store_->transact([&](Database& db) -> Result<std::vector<Payable>> {
    const Result<Sums> chosen = choose(db, options);
    if (!chosen) return chosen.error();
    std::vector<Payable> payable;
    for (const auto& [wallet, amount] : *chosen) payable.push_back({wallet, amount});
    return payable;
  });
}

Result<PaymentBatch> PaymentBatches::batch(const std::string& id) {
  if (!is_uuid(id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) { return load_batch(db, id); });
}

Result<std::vector<PaymentBatch>> PaymentBatches::open_batches() {
  return store_->transact([&](Database& db) -> Result<std::vector<PaymentBatch>> {
    const auto ids = db.query<std::string>(
        "SELECT id FROM far_payment_batches WHERE status <> 'confirmed' ORDER BY created_at, id");
    if (!ids) return ids.error();
    std::vector<PaymentBatch> batches;
    for (const auto& [id] : *ids) {
      Result<PaymentBatch> batch = load_batch(db, id);
      if (!batch) return batch.error();
      batches.push_back(std::move(*batch));
    }
    return batches;
  });
}

Result<void> PaymentBatches::submit(const std::string& id, const std::string& tx_hash) {
  const Result<void> good = check_text(tx_hash, kMaxHash, "tx_hash");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto batch = lock_batch(db, id);
    if (!batch) return batch.error();
    const auto& [status, hash] = *batch;
    if (status == BatchStatus::confirmed) {
      return hash == tx_hash ? Result<void>()
                             : Error{Errc::ledger_conflict, "the batch is confirmed"};
    }
    if (status == BatchStatus::submitted && hash == tx_hash) return {};
    const auto written = db.execute(
        "UPDATE far_payment_batches SET status = 'submitted', tx_hash = ?2, submitted_at = ?3, "
        "error_message = NULL WHERE id = ?1",
        {id, tx_hash, store_->now()});
    return written ? Result<void>() : written.error();
  });
}

Result<void> PaymentBatches::confirm(const std::string& id, const Confirmation& confirmation) {
  Result<void> good = check_text(confirmation.tx_hash, kMaxHash, "tx_hash");
  if (good) good = check_text(confirmation.gas_price_gwei, 32, "gas_price_gwei", true);
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto batch = lock_batch(db, id);
    if (!batch) return batch.error();
    const auto& [status, hash] = *batch;
    if (status == BatchStatus::confirmed && hash == confirmation.tx_hash) return {};
    if (status != BatchStatus::submitted) {
      return Error{Errc::ledger_conflict, "the batch is " + std::string(name(status))};
    }
    const LedgerTime now = store_->now();
    const auto written = db.execute(
        "UPDATE far_payment_batches SET status = 'confirmed', tx_hash = ?2, block_number = ?3, "
        "gas_used = ?4, gas_price_gwei = ?5, confirmed_at = ?6 WHERE id = ?1",
        {id, confirmation.tx_hash, static_cast<std::int64_t>(confirmation.block_number),
         static_cast<std::int64_t>(confirmation.gas_used), or_null(confirmation.gas_price_gwei),
         now});
    if (!written) return written.error();
    const Result<void> paid = pay_items(db, id, confirmation.tx_hash, now);
    return paid ? escrow_reservations_settled(db, id, /*settled=*/true, now) : paid;
  });
}

Result<void> PaymentBatches::reopen(const std::string& id) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto batch = lock_batch(db, id);
    if (!batch) return batch.error();
    const auto& [status, hash] = *batch;
    if (status == BatchStatus::submitted) return {};
    if (status != BatchStatus::confirmed) {
      return Error{Errc::ledger_conflict, "the batch is " + std::string(name(status))};
    }
    // In this order: a paid contribution opens only while its item is pending.
    auto step = db.execute(
        "UPDATE far_payment_batches SET status = 'submitted', block_number = NULL, confirmed_at = "
        "NULL, error_message = 'reopened: the chain forgot its transaction' WHERE id = ?1",
        {id});
    if (step) {
      step = db.execute(
          "UPDATE far_payment_items SET status = 'pending' WHERE paying_batch_id = ?1", {id});
    }
    if (step) {
      step = db.execute(
          "UPDATE far_session_contributions SET payment_tx_hash = NULL, paid_at = NULL WHERE "
          "payment_tx_hash = ?1 AND batch_id IN (SELECT batch_id FROM far_payment_items WHERE "
          "paying_batch_id = ?2) AND ((batch_id, wallet_address) IN (SELECT batch_id, "
          "wallet_address FROM far_payment_items WHERE paying_batch_id = ?3)) IS TRUE",
          {hash, id, id});
    }
    if (!step) return step.error();
    return escrow_reservations_settled(db, id, /*settled=*/false, store_->now());
  });
}

Result<std::vector<ConfirmedBatch>> PaymentBatches::confirmed_since(LedgerTime since) {
  return store_->transact([&](Database& db) -> Result<std::vector<ConfirmedBatch>> {
    const auto rows = db.query<std::string, std::string, std::uint64_t>(
        "SELECT id, tx_hash, coalesce(block_number, 0) FROM far_payment_batches WHERE status = "
        "'confirmed' AND confirmed_at >= ?1 ORDER BY confirmed_at, id",
        {since});
    if (!rows) return rows.error();
    std::vector<ConfirmedBatch> batches;
    for (const auto& [id, hash, block] : *rows) batches.push_back({id, hash, block});
    return batches;
  });
}

Result<Far> PaymentBatches::claimed_since(LedgerTime since) {
  return store_->transact([&](Database& db) -> Result<Far> {
    const auto row = db.query_one<Far>(
        "SELECT coalesce(sum({total_amount_far}), 0) FROM far_payment_batches WHERE created_at >= "
        "?1 AND status <> 'failed'",
        {since});
    if (!row) return row.error();
    return std::get<0>(**row);
  });
}

Result<void> PaymentBatches::fail(const std::string& id, const std::string& why) {
  const Result<void> good = check_prose(why, kMaxReason, "reason");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto batch = lock_batch(db, id);
    if (!batch) return batch.error();
    if (std::get<0>(*batch) == BatchStatus::confirmed) {
      return Error{Errc::ledger_conflict, "the batch is confirmed"};
    }
    const auto written = db.execute(
        "UPDATE far_payment_batches SET status = 'failed', error_message = ?2 WHERE id = ?1",
        {id, why});
    return written ? Result<void>() : written.error();
  });
}

Result<void> PaymentBatches::hold(const std::string& id, const std::string& wallet,
                                  const std::string& reason) {
  const Result<void> good = check_text(reason, kMaxReason, "reason");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto batch = lock_batch(db, id);
    if (!batch) return batch.error();
    const auto held_before = db.query_one<std::string>(
        "SELECT status FROM far_payment_items WHERE batch_id = ?1 AND wallet_address = ?2 AND "
        "status = 'held'",
        {id, wallet});
    if (!held_before) return held_before.error();
    if (*held_before) return {};
    const BatchStatus status = std::get<0>(*batch);
    if (status != BatchStatus::pending && status != BatchStatus::failed) {
      return Error{Errc::ledger_conflict, "the batch is " + std::string(name(status))};
    }
    const auto held = db.execute(
        "UPDATE far_payment_items SET status = 'held', paying_batch_id = NULL, reason = ?3 WHERE "
        "paying_batch_id = ?1 AND wallet_address = ?2",
        {id, wallet, reason});
    if (!held) return held.error();
    if (*held == 0) return Error{Errc::not_found, "the batch pays nothing to this wallet"};
    return write_totals(db, id);
  });
}

Result<std::vector<HeldItem>> PaymentBatches::held() {
  return store_->transact([&](Database& db) -> Result<std::vector<HeldItem>> {
    const auto rows = db.query<std::string, std::string, Far, std::string>(
        "SELECT batch_id, wallet_address, {amount_far}, reason FROM far_payment_items WHERE "
        "status = 'held' ORDER BY batch_id, wallet_address");
    if (!rows) return rows.error();
    std::vector<HeldItem> items;
    for (const auto& [batch, wallet, amount, reason] : *rows) {
      items.push_back({batch, wallet, amount, reason});
    }
    return items;
  });
}

Result<std::vector<WalletPayment>> PaymentBatches::of_wallet(const std::string& wallet) {
  const Result<void> good = check_text(wallet, kMaxWallet, "wallet");
  if (!good) return good.error();
  return store_->transact([&](Database& db) -> Result<std::vector<WalletPayment>> {
    using Text = std::optional<std::string>;
    const auto rows =
        db.query<std::string, Text, Far, std::string, Text, std::optional<std::uint64_t>>(
            "SELECT i.batch_id, i.paying_batch_id, {i.amount_far}, i.status, b.tx_hash, "
            "b.block_number FROM far_payment_items i JOIN far_payment_batches o ON o.id = "
            "i.batch_id LEFT JOIN far_payment_batches b ON b.id = i.paying_batch_id WHERE "
            "i.wallet_address = ?1 ORDER BY o.created_at, i.batch_id",
            {wallet});
    if (!rows) return rows.error();
    std::vector<WalletPayment> all;
    for (const auto& [origin, paying, amount, status, hash, block] : *rows) {
      WalletPayment& one = all.emplace_back();
      one = {origin, paying.value_or(""), amount, status, "", std::nullopt};
      if (status != "paid") continue;
      one.tx_hash = hash.value_or("");
      one.block_number = block;
    }
    return all;
  });
}

Result<void> PaymentBatches::release(const std::string& batch_id, const std::string& wallet) {
  if (!is_uuid(batch_id)) return Error{Errc::not_found, "no such batch"};
  return store_->transact([&](Database& db) -> Result<void> {
    const auto released = db.execute(
        "UPDATE far_payment_items SET status = 'pending', reason = NULL WHERE batch_id = ?1 AND "
        "wallet_address = ?2 AND status = 'held'",
        {batch_id, wallet});
    if (!released) return released.error();
    return *released == 1 ? Result<void>() : Error{Errc::not_found, "nothing is held"};
  });
}

}  // namespace farmesh::ledger
