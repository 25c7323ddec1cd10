#include "ledger/migrations.hpp"

#include <chrono>
#include <string>

namespace farmesh::ledger {
namespace {

constexpr std::int64_t kMigrationLock = 0x6661726d65736801;  // "farmesh", 1

// far_… as all our tables: a platform's database has its own record of its own migrations.
constexpr std::string_view kTableOfVersions =
    "CREATE TABLE IF NOT EXISTS far_schema_migrations (version bigint PRIMARY KEY, "
    "name varchar(255) NOT NULL, applied_at varchar(32) NOT NULL)";

Result<void> apply_missing(Database& database) {
  const Result<void> locked = database.lock(kMigrationLock);
  if (!locked) return locked;
  const Result<void> table = database.script(kTableOfVersions);
  if (!table) return table;
  const auto newest = database.query_one<std::int64_t>(
      "SELECT coalesce(max(version), 0) FROM far_schema_migrations");
  if (!newest) return newest.error();
  const std::int64_t version = std::get<0>(**newest);
  if (version > migrations().back().version) {
    return Error{Errc::ledger_newer, "its schema has version " + std::to_string(version) +
                                         ", this build knows " +
                                         std::to_string(migrations().back().version)};
  }
  const LedgerTime now =
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  for (const Migration& migration : migrations()) {
    if (migration.version <= version) continue;
    const bool sqlite = database.dialect() == Dialect::sqlite;
    const Result<void> applied = database.script(sqlite ? migration.sqlite : migration.postgres);
    if (!applied) {
      return Error{applied.error().code,
                   std::string(migration.name) + ": " + applied.error().detail};
    }
    const auto noted = database.execute(
        "INSERT INTO far_schema_migrations (version, name, applied_at) VALUES (?1, ?2, ?3)",
        {migration.version, migration.name, std::string_view(to_text(now))});
    if (!noted) return noted.error();
  }
  return {};
}

}  // namespace

Result<void> migrate(Database& database) {
  Result<void> done = database.ensure_connected();
  if (done) done = database.begin();
  if (!done) return done;
  done = apply_missing(database);
  if (done) done = database.commit();
  if (!done) database.rollback();
  return done;
}

}  // namespace farmesh::ledger
