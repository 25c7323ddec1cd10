// Brings a database to the schema of this build, by the numbered files of migrations/.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <farmesh/result.hpp>

#include "ledger/database.hpp"

namespace farmesh::ledger {

struct Migration {
  std::int64_t version = 0;
  std::string_view name;  // "004_distributed_inference"
  std::string_view postgres;
  std::string_view sqlite;
};

/// Those of this build, by version. Their text is compiled in.
std::span<const Migration> migrations();

/// Applies what is missing, each in a transaction with its entry in far_schema_migrations, under a
/// lock: of several programs that start at once, one does it. Fails with ledger_newer when a newer
/// version was here before, and as the database does.
Result<void> migrate(Database& database);

}  // namespace farmesh::ledger
