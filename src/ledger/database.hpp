// One SQL database as the ledger sees it: statements with typed values in, typed rows out.
//
// The same statement text runs on both back ends. Values are always bound, never pasted:
//   ?1, ?2…        values, in order of the list that is passed
//   {payment_far}  a column of money: base units on SQLite, decimal(20,8) on PostgreSQL
//   {for update}   locks the chosen rows on PostgreSQL; SQLite's writers are alone anyway
// Times travel as ISO 8601 text in UTC, money on PostgreSQL as decimal text, never as a double.
// Threading: one caller at a time; Store (store.hpp) sees to that.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <farmesh/ledger.hpp>
#include <farmesh/money.hpp>
#include <farmesh/result.hpp>

namespace farmesh::ledger {

enum class Dialect : std::uint8_t { sqlite, postgres };

using Blob = std::span<const std::uint8_t>;
using LayerList = std::span<const std::uint32_t>;

/// What a statement may be given. Text must be UTF-8 without NUL; it is not copied.
using Value = std::variant<std::nullptr_t, bool, std::int64_t, double, std::string_view, Far,
                           LedgerTime, Blob, LayerList>;
using Values = std::initializer_list<Value>;

/// NULL for nothing, and for empty text.
template <class T>
Value or_null(const std::optional<T>& value) {
  return value ? Value(*value) : Value(nullptr);
}
inline Value or_null(const std::string& text) {
  return text.empty() ? Value(nullptr) : Value(std::string_view(text));
}

/// One field of a row, valid while the row is visited.
struct Field {
  enum class Kind : std::uint8_t { null, integer, real, text, blob };
  Kind kind = Kind::null;
  std::int64_t integer = 0;
  double real = 0;
  std::string_view bytes;  // of text and blob; every field of PostgreSQL is text
};

/// Each fails by returning false when the field holds something else.
bool read(const Field& field, bool& out);
bool read(const Field& field, std::int64_t& out);
bool read(const Field& field, std::int32_t& out);
bool read(const Field& field, std::uint32_t& out);
bool read(const Field& field, std::uint64_t& out);
bool read(const Field& field, double& out);
bool read(const Field& field, std::string& out);
bool read(const Field& field, Far& out);
bool read(const Field& field, LedgerTime& out);
bool read(const Field& field, std::vector<std::uint8_t>& out);
bool read(const Field& field, std::vector<std::uint32_t>& out);
template <class T>
bool read(const Field& field, std::optional<T>& out) {
  if (field.kind == Field::Kind::null) return out.reset(), true;
  return read(field, out.emplace());
}

/// Visits the rows of one answer.
class RowVisitor {
 public:
  virtual ~RowVisitor() = default;
  /// False ends the visit; the statement then fails with ledger_damaged.
  virtual bool row(std::span<const Field> fields) = 0;
};

class Database {
 public:
  virtual ~Database() = default;
  virtual Dialect dialect() const noexcept = 0;

  /// Ends in commit() or rollback(). Fail with busy when another transaction is in the way, and
  /// with connection_lost; both may be tried again from begin() on.
  virtual Result<void> begin() = 0;
  virtual Result<void> commit() = 0;
  virtual void rollback() noexcept = 0;
  /// True while the connection is of use; reconnects when it is not and no transaction is open.
  virtual Result<void> ensure_connected() = 0;

  /// Several statements without values, such as a migration.
  virtual Result<void> script(std::string_view statements) = 0;
  /// Until the transaction ends, others who ask for the same number wait.
  virtual Result<void> lock(std::int64_t number) = 0;

  /// Runs one statement and gives the number of rows it changed.
  Result<std::int64_t> execute(std::string_view sql, Values values = {}) {
    return run(sql, {values.begin(), values.size()}, nullptr);
  }

  /// All rows, as tuples of the types named: query<std::string, Far>("SELECT id, {cost} …").
  template <class... Columns>
  Result<std::vector<std::tuple<Columns...>>> query(std::string_view sql, Values values = {});

  /// The first row, or nothing.
  template <class... Columns>
  Result<std::optional<std::tuple<Columns...>>> query_one(std::string_view sql,
                                                          Values values = {}) {
    auto rows = query<Columns...>(sql, values);
    if (!rows) return std::move(rows).error();
    if (rows->empty()) return std::optional<std::tuple<Columns...>>();
    return std::optional(std::move(rows->front()));
  }

 protected:
  virtual Result<std::int64_t> run(std::string_view sql, std::span<const Value> values,
                                   RowVisitor* visitor) = 0;
};

template <class... Columns>
Result<std::vector<std::tuple<Columns...>>> Database::query(std::string_view sql, Values values) {
  using Row = std::tuple<Columns...>;
  struct Collector final : RowVisitor {
    std::vector<Row> rows;
    bool row(std::span<const Field> fields) override {
      if (fields.size() != sizeof...(Columns)) return false;
      rows.emplace_back();
      std::size_t column = 0;
      return std::apply([&](auto&... out) { return (read(fields[column++], out) && ...); },
                        rows.back());
    }
  };
  Collector collector;
  const Result<std::int64_t> done = run(sql, {values.begin(), values.size()}, &collector);
  if (!done) return done.error();
  return std::move(collector.rows);
}

/// `sql` as this back end takes it.
std::string in_dialect(std::string_view sql, Dialect dialect);

/// "2026-11-23T08:15:02.123Z"
std::string to_text(LedgerTime time);
/// That form, and PostgreSQL's "2026-11-23 08:15:02.123456+00"; nothing for other text.
std::optional<LedgerTime> parse_time(std::string_view text);

struct SqliteOptions {
  std::string path;  // ":memory:" for a test's own
  bool durable = true;
  std::chrono::milliseconds lock_timeout{10'000};
};
Result<std::unique_ptr<Database>> open_sqlite(const SqliteOptions& options);

struct PostgresOptions {
  std::string url;  // or a libpq connection string; may hold a password, so never in an error
  std::chrono::milliseconds lock_timeout{10'000};
};
Result<std::unique_ptr<Database>> open_postgres(const PostgresOptions& options);

}  // namespace farmesh::ledger
