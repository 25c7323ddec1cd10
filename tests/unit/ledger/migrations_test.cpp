// The schema: applied twice over, over an earlier edition, by psql and by the program.
#include "ledger/migrations.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "ledger/payment_batches.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using ledger::Database;
using ledger::Dialect;

const std::string kFile = FARMESH_SOURCE_DIR "/migrations/004_distributed_inference.sql";
const std::string kEarlier = FARMESH_SOURCE_DIR "/tests/unit/ledger/earlier_004.sql";

Result<std::shared_ptr<ledger::Store>> open_at(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  return ledger::Store::open(options);
}

void serve_one(const std::shared_ptr<ledger::Store>& store) {
  ContributionLedger book(store);
  const auto opened = book.begin_session(start_of("new"));
  REQUIRE_MESSAGE(opened, opened.error().to_string());
  const auto ended =
      book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(512)});
  REQUIRE_MESSAGE(ended, ended.error().to_string());
  check_audit(store);
}

template <class Column>
Column one(const std::shared_ptr<ledger::Store>& store, const std::string& sql) {
  const auto row = store->transact([&](Database& db) { return db.query_one<Column>(sql); });
  REQUIRE_MESSAGE(row, row.error().to_string());
  REQUIRE(*row);
  return std::get<0>(**row);
}

}  // namespace

TEST_SUITE("ledger/migrations") {
  TEST_CASE_TEMPLATE("opening again changes nothing; a newer schema is left alone", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    serve_one(world.store);
    REQUIRE(world.open());
    CHECK(one<std::int64_t>(world.store, "SELECT count(*) FROM far_schema_migrations") ==
          static_cast<std::int64_t>(ledger::migrations().size()));
    REQUIRE(world.store->transact([](Database& db) {
      return db.execute("INSERT INTO far_schema_migrations VALUES (9999, 'later', 'then')");
    }));
    const auto refused = world.open();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::ledger_newer);
  }

  TEST_CASE_TEMPLATE("all who open an empty database at once find it migrated, once", Backend,
                     OnSqlite, OnPostgres) {
    const Backend backend;
    if (backend.url.empty()) {
      MESSAGE("skipped: PostgreSQL 15 is not installed");
      return;
    }
    std::atomic<int> opened{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] { opened += open_at(backend.url) ? 1 : 0; });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(opened == 8);
    const auto store = open_at(backend.url);
    REQUIRE(store);
    CHECK(one<std::int64_t>(*store, "SELECT count(*) FROM far_schema_migrations") ==
          static_cast<std::int64_t>(ledger::migrations().size()));
  }

  TEST_CASE(
      "psql applies the file twice, alone and over an earlier edition, with and without the "
      "platform's role") {
    PostgresServer* server = PostgresServer::get();
    if (server == nullptr) {
      MESSAGE("skipped: PostgreSQL 15 is not installed");
      return;
    }
    for (const bool role : {false, true}) {
      if (role) REQUIRE(server->psql({"-c", "CREATE ROLE farlabs_admin"}, "postgres"));
      for (const bool earlier : {false, true}) {
        CAPTURE(role);
        CAPTURE(earlier);
        const std::string url = server->new_database();
        if (earlier) REQUIRE(server->psql({"-f", kEarlier}, url));
        REQUIRE(server->psql({"-f", kFile}, url));
        REQUIRE(server->psql({"-f", kFile}, url));
        const auto store = open_at(url);  // its own runner goes over it once more
        REQUIRE_MESSAGE(store, store.error().to_string());
        serve_one(*store);
        CHECK(one<Far>(*store, "SELECT sum(total_earned) FROM node_earnings_summary") ==
              far(earlier ? "0.0522" : "0.0512"));
        if (role) {
          CHECK(server->psql({"-c",
                              "SET ROLE farlabs_admin; SELECT count(*) FROM far_receipts; "
                              "SELECT count(*) FROM active_far_nodes"},
                             url));
        }
      }
    }
  }

  TEST_CASE("what an earlier edition owed is payable, and no longer vanishes with its session") {
    PostgresServer* server = PostgresServer::get();
    if (server == nullptr) {
      MESSAGE("skipped: PostgreSQL 15 is not installed");
      return;
    }
    const std::string url = server->new_database();
    REQUIRE(server->psql({"-f", kEarlier}, url));
    const auto store = open_at(url);
    REQUIRE_MESSAGE(store, store.error().to_string());
    CHECK_FALSE(server->psql({"-c", "DELETE FROM far_mesh_sessions"}, url));
    CHECK_FALSE(server->psql({"-c", "UPDATE far_session_contributions SET payment_far = 1"}, url));
    ledger::ClaimOptions options;
    options.minimum = far("0.001");
    options.payable_before = (*store)->now() + std::chrono::hours(1);
    const auto claimed = ledger::PaymentBatches(*store).claim(options);
    REQUIRE_MESSAGE(claimed, claimed.error().to_string());
    REQUIRE(*claimed);
    CHECK((*claimed)->items[0].wallet == "0xold");
    CHECK((*claimed)->total == far("0.001"));
  }

  TEST_CASE("the published functions: finalising twice is once, a sign of life is seen") {
    World<OnPostgres> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    const auto session = book.begin_session(start_of("r"));
    REQUIRE(session);
    const auto call = [&](const std::string& sql) {
      return PostgresServer::get()->psql({"-c", sql}, world.backend.url);
    };
    REQUIRE(
        call("INSERT INTO far_nodes (node_id, wallet_address, is_active) VALUES ('n', '0xn', "
             "false); INSERT INTO far_session_contributions (session_id, node_id, "
             "tokens_contributed, payment_far) SELECT '" +
             session->session_id + "', id, 5, 0.0005 FROM far_nodes"));
    const std::string finalize =
        "SELECT finalize_session('" + session->session_id + "', 5, 0.0005)";
    REQUIRE(call(finalize));
    REQUIRE(call(finalize));
    REQUIRE(call("SELECT update_node_last_seen('n')"));
    CHECK(one<Far>(world.store, "SELECT total_earned_far FROM far_nodes") == far("0.0005"));
    CHECK(one<bool>(world.store, "SELECT is_active FROM far_nodes"));
    CHECK(one<Far>(world.store, "SELECT total_cost_far FROM far_mesh_sessions") == far("0.0005"));
    CHECK(book.session(session->session_id)->status == SessionStatus::completed);
  }

  TEST_CASE("SQLite shows amounts as exact decimals, and its views say what PostgreSQL's do") {
    World<OnSqlite> world;
    serve_one(world.store);
    CHECK(one<std::string>(world.store, "SELECT total_cost_far FROM far_mesh_sessions") ==
          "0.05120000");
    CHECK(one<std::string>(world.store,
                           "SELECT pending_payment FROM node_earnings_summary WHERE "
                           "node_id LIKE '%3'") == "0.01600000");
    CHECK(one<std::int64_t>(world.store, "SELECT count(*) FROM active_far_nodes") == 0);
  }

  TEST_CASE("places and columns are written for each back end") {
    constexpr std::string_view sql = "SELECT {c.pay} FROM t WHERE a = ?1 AND b = ?12 {for update}";
    CHECK(ledger::in_dialect(sql, Dialect::sqlite) ==
          "SELECT c.pay_units FROM t WHERE a = ?1 AND b = ?12 ");
    CHECK(ledger::in_dialect(sql, Dialect::postgres) ==
          "SELECT c.pay FROM t WHERE a = $1 AND b = $12 FOR UPDATE");
  }

  TEST_CASE("times survive as text; other text is no time") {
    const auto time = ledger::parse_time("2026-11-23 08:15:02.123456+00");
    REQUIRE(time);
    CHECK(ledger::to_text(*time) == "2026-11-23T08:15:02.123Z");
    CHECK(ledger::parse_time("2026-11-23T08:15:02.123Z") == time);
    CHECK(ledger::parse_time("1970-01-01 00:00:00+00") == LedgerTime());
    for (const char* text : {"", "2026-11-23", "2026-13-23T08:15:02Z", "2026-02-30T08:15:02Z",
                             "2026-11-23T24:00:00Z", "2026-11-23T08:15:02+01", "infinity"}) {
      CAPTURE(text);
      CHECK_FALSE(ledger::parse_time(text));
    }
  }

  TEST_CASE("a URL that is none, a folder and a file that is no database are refused") {
    const TempDir folder;
    CHECK(open_at("").error().code == Errc::config_invalid);
    CHECK(open_at("mysql://x/y").error().code == Errc::config_invalid);
    CHECK(open_at("/nonexistent/folder/x").error().code == Errc::ledger_unavailable);
    CHECK(open_at("postgresql://u:secret@127.0.0.1:1/x").error().code == Errc::ledger_unavailable);
    CHECK(open_at("postgresql://u:secret@127.0.0.1:1/x").error().detail.find("secret") ==
          std::string::npos);
    const auto file = folder.write("no.sqlite", std::string(4'096, 'x'));
    CHECK(open_at(file.string()).error().code == Errc::ledger_damaged);
  }
}

}  // namespace farmesh::test
