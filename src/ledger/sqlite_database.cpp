// SQLite behind the Database interface: one file, write-ahead log, statements prepared once.
#include <chrono>
#include <string>
#include <thread>
#include <unordered_map>

#include <sqlite3.h>

#include "base/assert.hpp"
#include "ledger/database.hpp"

namespace farmesh::ledger {
namespace {

struct CloseDatabase {
  void operator()(sqlite3* db) const noexcept { sqlite3_close_v2(db); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

struct HashOfText {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>()(text);
  }
};

// Leaves a statement fit for its next use, whatever happened.
class StatementUse {
 public:
  explicit StatementUse(sqlite3_stmt* statement) : statement_(statement) {}
  ~StatementUse() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  StatementUse(const StatementUse&) = delete;
  StatementUse& operator=(const StatementUse&) = delete;

 private:
  sqlite3_stmt* statement_;
};

Field field_of(sqlite3_stmt* statement, int column) {
  Field field;
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
      field.kind = Field::Kind::integer;
      field.integer = sqlite3_column_int64(statement, column);
      break;
    case SQLITE_FLOAT:
      field.kind = Field::Kind::real;
      field.real = sqlite3_column_double(statement, column);
      break;
    case SQLITE_TEXT:
    case SQLITE_BLOB: {
      const bool text = sqlite3_column_type(statement, column) == SQLITE_TEXT;
      field.kind = text ? Field::Kind::text : Field::Kind::blob;
      const void* data = sqlite3_column_blob(statement, column);
      const int size = sqlite3_column_bytes(statement, column);
      if (size > 0) field.bytes = {static_cast<const char*>(data), static_cast<std::size_t>(size)};
      break;
    }
    default: break;
  }
  return field;
}

std::string json_array(LayerList layers) {
  std::string text = "[";
  for (const std::uint32_t layer : layers) {
    if (text.size() > 1) text += ',';
    text += std::to_string(layer);
  }
  return text + ']';
}

int bind_text(sqlite3_stmt* statement, int index, std::string_view text, bool copy) {
  return sqlite3_bind_text64(statement, index, text.data() == nullptr ? "" : text.data(),
                             text.size(), copy ? SQLITE_TRANSIENT : SQLITE_STATIC, SQLITE_UTF8);
}

int bind(sqlite3_stmt* statement, int index, const Value& value) {
  struct Binder {
    sqlite3_stmt* statement;
    int index;
    int operator()(std::nullptr_t) const { return sqlite3_bind_null(statement, index); }
    int operator()(bool flag) const { return sqlite3_bind_int64(statement, index, flag); }
    int operator()(std::int64_t number) const {
      return sqlite3_bind_int64(statement, index, number);
    }
    int operator()(double number) const { return sqlite3_bind_double(statement, index, number); }
    int operator()(std::string_view text) const { return bind_text(statement, index, text, false); }
    int operator()(Far amount) const {
      return sqlite3_bind_int64(statement, index, amount.units());
    }
    int operator()(LedgerTime time) const {
      return bind_text(statement, index, to_text(time), true);
    }
    int operator()(Blob bytes) const {
      return sqlite3_bind_blob64(statement, index, bytes.empty() ? "" : (const void*)bytes.data(),
                                 bytes.size(), SQLITE_STATIC);
    }
    int operator()(LayerList layers) const {
      return bind_text(statement, index, json_array(layers), true);
    }
  };
  return std::visit(Binder{statement, index}, value);
}

class SqliteDatabase final : public Database {
 public:
  explicit SqliteDatabase(std::unique_ptr<sqlite3, CloseDatabase> db) : db_(std::move(db)) {}

  Dialect dialect() const noexcept override { return Dialect::sqlite; }
  // IMMEDIATE: a transaction that began as a reader and then wants to write could only fail.
  Result<void> begin() override { return script("BEGIN IMMEDIATE"); }
  Result<void> commit() override { return script("COMMIT"); }
  void rollback() noexcept override {
    if (sqlite3_get_autocommit(db_.get()) == 0) {
      sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
  }
  Result<void> ensure_connected() override { return {}; }
  // The writers of a file are alone already.
  Result<void> lock(std::int64_t) override { return {}; }

  Result<void> script(std::string_view statements) override {
    const std::string text(statements);
    if (sqlite3_exec(db_.get(), text.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
      return error();
    }
    return {};
  }

  Result<std::int64_t> run(std::string_view sql, std::span<const Value> values,
                           RowVisitor* visitor) override {
    Result<sqlite3_stmt*> statement = prepared(sql);
    if (!statement) return statement.error();
    const StatementUse use(*statement);
    FARMESH_ASSERT(sqlite3_bind_parameter_count(*statement) == static_cast<int>(values.size()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (bind(*statement, static_cast<int>(i) + 1, values[i]) != SQLITE_OK) return error();
    }
    const std::int64_t before = sqlite3_total_changes64(db_.get());
    std::vector<Field> fields(static_cast<std::size_t>(sqlite3_column_count(*statement)));
    for (;;) {
      const int step = sqlite3_step(*statement);
      if (step == SQLITE_DONE) break;
      if (step != SQLITE_ROW) return error();
      if (visitor == nullptr) continue;
      for (std::size_t i = 0; i < fields.size(); ++i) {
        fields[i] = field_of(*statement, static_cast<int>(i));
      }
      if (!visitor->row(fields)) {
        return Error{Errc::ledger_damaged, "a row holds a value of another type"};
      }
    }
    return sqlite3_total_changes64(db_.get()) - before;
  }

 private:
  Result<sqlite3_stmt*> prepared(std::string_view sql) {
    if (const auto found = statements_.find(sql); found != statements_.end()) {
      return found->second.get();
    }
    const std::string text = in_dialect(sql, Dialect::sqlite);
    sqlite3_stmt* raw = nullptr;
    if (sqlite3_prepare_v3(db_.get(), text.c_str(), static_cast<int>(text.size()) + 1,
                           SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK) {
      return error();
    }
    return statements_.emplace(std::string(sql), Statement(raw)).first->second.get();
  }

  Error error() const {
    const std::string detail = std::string("SQLite: ") + sqlite3_errmsg(db_.get());
    switch (sqlite3_errcode(db_.get()) & 0xff) {
      case SQLITE_BUSY:
      case SQLITE_LOCKED: return {Errc::busy, detail};
      case SQLITE_CONSTRAINT: return {Errc::ledger_conflict, detail};
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
      case SQLITE_MISMATCH: return {Errc::ledger_damaged, detail};
      default: return {Errc::ledger_unavailable, detail};
    }
  }

  std::unique_ptr<sqlite3, CloseDatabase> db_;  // before the statements: they end first
  std::unordered_map<std::string, Statement, HashOfText, std::equal_to<>> statements_;
};

}  // namespace

Result<std::unique_ptr<Database>> open_sqlite(const SqliteOptions& options) {
  sqlite3* raw = nullptr;
  const int opened =
      sqlite3_open_v2(options.path.c_str(), &raw,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<sqlite3, CloseDatabase> db(raw);
  if (opened != SQLITE_OK) {
    return Error{Errc::ledger_unavailable,
                 std::string("SQLite: ") + (raw ? sqlite3_errmsg(raw) : "out of memory")};
  }
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, static_cast<int>(options.lock_timeout.count()));
  auto database = std::make_unique<SqliteDatabase>(std::move(db));
  const std::string settings =
      std::string(
          "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;"
          "PRAGMA cache_size=-32768; PRAGMA temp_store=MEMORY; PRAGMA synchronous=") +
      (options.durable ? "FULL" : "NORMAL");
  // Of several that turn a new file to WAL at once SQLite tells all but one that it is locked, and
  // does not wait as it does elsewhere.
  const auto deadline = std::chrono::steady_clock::now() + options.lock_timeout;
  Result<void> set = database->script(settings);
  while (!set && set.error().code == Errc::busy && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    set = database->script(settings);
  }
  if (!set) {
    const bool damaged = set.error().code == Errc::ledger_damaged;
    return Error{damaged ? Errc::ledger_damaged : Errc::ledger_unavailable, set.error().detail};
  }
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace farmesh::ledger
