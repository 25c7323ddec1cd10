// PostgreSQL behind the Database interface: libpq, statements prepared once a connection, values
// as text, so that no amount is ever a double.
#include <array>
#include <charconv>
#include <string>
#include <unordered_map>

#include <libpq-fe.h>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "ledger/database.hpp"

namespace farmesh::ledger {
namespace {

struct Finish {
  void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
};
struct Clear {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using Answer = std::unique_ptr<PGresult, Clear>;

struct HashOfText {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>()(text);
  }
};

/// A value as PostgreSQL reads it; nothing for NULL.
std::optional<std::string> as_text(const Value& value) {
  struct Writer {
    std::optional<std::string> operator()(std::nullptr_t) const { return std::nullopt; }
    std::optional<std::string> operator()(bool flag) const { return flag ? "t" : "f"; }
    std::optional<std::string> operator()(std::int64_t number) const {
      return std::to_string(number);
    }
    std::optional<std::string> operator()(double number) const {
      std::array<char, 32> digits;
      const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
      return std::string(digits.data(), end);
    }
    std::optional<std::string> operator()(std::string_view text) const { return std::string(text); }
    std::optional<std::string> operator()(Far amount) const { return amount.to_string(); }
    std::optional<std::string> operator()(LedgerTime time) const { return to_text(time); }
    std::optional<std::string> operator()(Blob bytes) const { return "\\x" + to_hex(bytes); }
    std::optional<std::string> operator()(LayerList layers) const {
      std::string text = "{";
      for (const std::uint32_t layer : layers) {
        if (text.size() > 1) text += ',';
        text += std::to_string(layer);
      }
      return text + '}';
    }
  };
  return std::visit(Writer{}, value);
}

// Names and numbers only: messages of the server may quote values, connection errors the URL.
std::string first_line(const char* message) {
  const std::string_view text = message == nullptr ? "" : message;
  return std::string(text.substr(0, std::min<std::size_t>(text.find('\n'), 200)));
}

class PostgresDatabase final : public Database {
 public:
  explicit PostgresDatabase(PostgresOptions options) : options_(std::move(options)) {}

  Dialect dialect() const noexcept override { return Dialect::postgres; }

  // READ COMMITTED with rows locked where a decision hangs on them.
  Result<void> begin() override { return script("BEGIN"); }
  Result<void> commit() override { return script("COMMIT"); }
  void rollback() noexcept override {
    if (connection_ && PQtransactionStatus(connection_.get()) != PQTRANS_IDLE) {
      Answer(PQexec(connection_.get(), "ROLLBACK"));
    }
  }

  Result<void> ensure_connected() override {
    if (connection_ && PQstatus(connection_.get()) == CONNECTION_OK) return {};
    statements_.clear();
    connection_.reset(PQconnectdb(options_.url.c_str()));
    if (!connection_ || PQstatus(connection_.get()) != CONNECTION_OK) {
      connection_.reset();
      return Error{Errc::ledger_unavailable, "PostgreSQL cannot be reached with this URL"};
    }
    PQsetNoticeProcessor(
        connection_.get(), [](void*, const char*) {}, nullptr);
    return script(
        "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = 'hex';"
        "SET client_encoding = 'UTF8'; SET extra_float_digits = 1;"
        "SET lock_timeout = " +
        std::to_string(options_.lock_timeout.count()));
  }

  Result<void> script(std::string_view statements) override {
    if (!connection_) return Error{Errc::connection_lost, "PostgreSQL: not connected"};
    const Answer answer(PQexec(connection_.get(), std::string(statements).c_str()));
    return is_good(answer.get()) ? Result<void>() : error(answer.get());
  }

  Result<void> lock(std::int64_t number) override {
    return script("SELECT pg_advisory_xact_lock(" + std::to_string(number) + ")");
  }

  Result<std::int64_t> run(std::string_view sql, std::span<const Value> values,
                           RowVisitor* visitor) override {
    if (!connection_) return Error{Errc::connection_lost, "PostgreSQL: not connected"};
    const Result<const char*> name = prepared(sql);
    if (!name) return name.error();
    std::vector<std::optional<std::string>> texts;
    std::vector<const char*> parameters;
    texts.reserve(values.size());
    for (const Value& value : values) {
      texts.push_back(as_text(value));
      parameters.push_back(texts.back() ? texts.back()->c_str() : nullptr);
    }
    const Answer answer(PQexecPrepared(connection_.get(), *name,
                                       static_cast<int>(parameters.size()), parameters.data(),
                                       nullptr, nullptr, 0));
    if (!is_good(answer.get())) return error(answer.get());
    if (visitor != nullptr && !visit(answer.get(), *visitor)) {
      return Error{Errc::ledger_damaged, "a row holds a value of another type"};
    }
    std::int64_t changed = 0;
    const std::string_view count = PQcmdTuples(answer.get());
    std::from_chars(count.data(), count.data() + count.size(), changed);
    return changed;
  }

 private:
  static bool is_good(const PGresult* answer) {
    const ExecStatusType status = PQresultStatus(answer);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
  }

  static bool visit(const PGresult* answer, RowVisitor& visitor) {
    std::vector<Field> fields(static_cast<std::size_t>(PQnfields(answer)));
    for (int row = 0; row < PQntuples(answer); ++row) {
      for (std::size_t i = 0; i < fields.size(); ++i) {
        const int column = static_cast<int>(i);
        if (PQgetisnull(answer, row, column)) {
          fields[i] = {};
          continue;
        }
        fields[i].kind = Field::Kind::text;
        fields[i].bytes = {PQgetvalue(answer, row, column),
                           static_cast<std::size_t>(PQgetlength(answer, row, column))};
      }
      if (!visitor.row(fields)) return false;
    }
    return true;
  }

  Result<const char*> prepared(std::string_view sql) {
    if (const auto found = statements_.find(sql); found != statements_.end()) {
      return found->second.c_str();
    }
    const std::string text = in_dialect(sql, Dialect::postgres);
    const std::string name = "s" + std::to_string(statements_.size());
    const Answer answer(PQprepare(connection_.get(), name.c_str(), text.c_str(), 0, nullptr));
    if (!is_good(answer.get())) return error(answer.get());
    return statements_.emplace(std::string(sql), name).first->second.c_str();
  }

  Error error(const PGresult* answer) const {
    if (PQstatus(connection_.get()) != CONNECTION_OK) {
      return {Errc::connection_lost, "PostgreSQL: the connection ended"};
    }
    const char* field = PQresultErrorField(answer, PG_DIAG_SQLSTATE);
    const std::string_view state = field == nullptr ? "" : field;
    const std::string detail =
        "PostgreSQL: " + first_line(PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY)) + " (" +
        std::string(state) + ")";
    // Serialisation failure, deadlock, lock not available.
    if (state == "40001" || state == "40P01" || state == "55P03") return {Errc::busy, detail};
    if (state.starts_with("08") || state.starts_with("57P")) {
      return {Errc::connection_lost, detail};
    }
    if (state.starts_with("23")) return {Errc::ledger_conflict, detail};
    if (state == "22003") return {Errc::amount_invalid, detail};
    return {Errc::ledger_unavailable, detail};
  }

  PostgresOptions options_;
  std::unique_ptr<PGconn, Finish> connection_;
  std::unordered_map<std::string, std::string, HashOfText, std::equal_to<>> statements_;
};

}  // namespace

Result<std::unique_ptr<Database>> open_postgres(const PostgresOptions& options) {
  auto database = std::make_unique<PostgresDatabase>(options);
  const Result<void> connected = database->ensure_connected();
  if (!connected) return connected.error();
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace farmesh::ledger
