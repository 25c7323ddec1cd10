#include "ledger/chain_book.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "ledger/checks.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::string_view kColumns =
    "SELECT reference, chain, kind, account, amount_wei, tx_hash, block_number, position, "
    "dropped_at FROM far_chain_movements ";

constexpr std::array kKinds = {std::pair(MovementKind::deposit, std::string_view("deposit")),
                               std::pair(MovementKind::withdrawal, std::string_view("withdrawal")),
                               std::pair(MovementKind::request, std::string_view("request"))};

std::string_view name(MovementKind kind) {
  return std::ranges::find(kKinds, kind, &decltype(kKinds)::value_type::first)->second;
}

Result<std::vector<ChainMovement>> load(Database& db, std::string_view where, Values values) {
  const auto rows = db.query<std::string, std::string, std::string, std::string, std::string,
                             std::string, std::uint64_t, std::uint64_t, std::optional<LedgerTime>>(
      std::string(kColumns) + std::string(where), values);
  if (!rows) return rows.error();
  std::vector<ChainMovement> all;
  for (const auto& [reference, chain, kind, account, wei, hash, block, position, dropped] : *rows) {
    const auto known =
        std::ranges::find(kKinds, std::string_view(kind), &decltype(kKinds)::value_type::second);
    if (known == kKinds.end()) return Error{Errc::ledger_damaged, "a movement of an unknown kind"};
    all.push_back(
        {reference, chain, known->first, account, wei, hash, block, position, dropped.has_value()});
  }
  return all;
}

}  // namespace

Result<std::optional<ChainCursor>> ChainBook::cursor(const std::string& chain) {
  return store_->transact([&](Database& db) -> Result<std::optional<ChainCursor>> {
    const auto row = db.query_one<std::uint64_t, std::string>(
        "SELECT block_number, block_hash FROM far_chain_cursors WHERE name = ?1", {chain});
    if (!row) return row.error();
    if (!*row) return std::optional<ChainCursor>();
    return std::optional(ChainCursor{std::get<0>(**row), std::get<1>(**row)});
  });
}

Result<void> ChainBook::set_cursor(const std::string& chain, const ChainCursor& cursor) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto written = db.execute(
        "INSERT INTO far_chain_cursors (name, block_number, block_hash) VALUES (?1, ?2, ?3) "
        "ON CONFLICT (name) DO UPDATE SET block_number = excluded.block_number, block_hash = "
        "excluded.block_hash",
        {chain, static_cast<std::int64_t>(cursor.block_number), cursor.block_hash});
    return written ? Result<void>() : written.error();
  });
}

Result<std::optional<ChainMovement>> ChainBook::movement(const std::string& reference) {
  return store_->transact([&](Database& db) -> Result<std::optional<ChainMovement>> {
    auto rows = load(db, "WHERE reference = ?1", {reference});
    if (!rows) return rows.error();
    if (rows->empty()) return std::optional<ChainMovement>();
    return std::optional(std::move(rows->front()));
  });
}

Result<void> ChainBook::put(const ChainMovement& movement) {
  const Result<void> good = check_text(movement.reference, 255, "reference");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto written = db.execute(
        "INSERT INTO far_chain_movements (reference, chain, kind, account, amount_wei, tx_hash, "
        "block_number, position) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (reference) "
        "DO "
        "UPDATE SET block_number = excluded.block_number, position = excluded.position, "
        "dropped_at = NULL",
        {movement.reference, movement.chain, name(movement.kind), movement.account,
         movement.amount_wei, movement.tx_hash, static_cast<std::int64_t>(movement.block_number),
         static_cast<std::int64_t>(movement.position)});
    return written ? Result<void>() : written.error();
  });
}

Result<void> ChainBook::drop(const std::string& reference) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto written =
        db.execute("UPDATE far_chain_movements SET dropped_at = ?2 WHERE reference = ?1",
                   {reference, store_->now()});
    return written ? Result<void>() : written.error();
  });
}

Result<std::vector<ChainMovement>> ChainBook::movements(const std::string& chain,
                                                        std::uint64_t from_block) {
  return store_->transact([&](Database& db) {
    return load(db,
                "WHERE chain = ?1 AND block_number >= ?2 AND dropped_at IS NULL ORDER BY "
                "block_number, position, reference",
                {chain, static_cast<std::int64_t>(from_block)});
  });
}

Result<std::vector<ChainMovement>> ChainBook::movements_of(const std::string& account) {
  return store_->transact([&](Database& db) {
    return load(db,
                "WHERE account = ?1 AND dropped_at IS NULL ORDER BY chain, block_number, position, "
                "reference",
                {account});
  });
}

}  // namespace farmesh::ledger
