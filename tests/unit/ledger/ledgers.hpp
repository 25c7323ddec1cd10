// The same ledger on either back end, for tests that run on both.
#pragma once

#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "ledger/store.hpp"
#include "support/postgres_server.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::test {

/// A clock that stands still until it is told.
struct ManualClock {
  std::shared_ptr<LedgerTime> time =
      std::make_shared<LedgerTime>(std::chrono::sys_days(std::chrono::year(2026) / 11 / 23));
  void advance(std::chrono::milliseconds by) { *time += by; }
  LedgerTime now() const { return *time; }
};

struct OnSqlite {
  TempDir folder;
  std::string url = (folder.path() / "ledger.sqlite").string();
};

struct OnPostgres {
  std::string url = PostgresServer::get() ? PostgresServer::get()->new_database() : std::string();
};

template <class Backend>
struct World {
  Backend backend;
  ManualClock clock;
  std::shared_ptr<ledger::Store> store;

  World() {
    if (backend.url.empty()) return;
    auto opened = open();
    REQUIRE_MESSAGE(opened, opened.error().to_string());
    store = *opened;
  }

  /// Once more, as another process would.
  Result<std::shared_ptr<ledger::Store>> open() const {
    LedgerOptions options;
    options.url = backend.url;
    options.durable = false;
    const auto time = clock.time;
    options.clock = [time] { return *time; };
    return ledger::Store::open(options);
  }
};

/// Every sum of the ledger holds.
inline void check_audit(const std::shared_ptr<ledger::Store>& store) {
  const auto report = ContributionLedger(store).audit();
  REQUIRE_MESSAGE(report, report.error().to_string());
  for (const AuditFinding& finding : report->findings) {
    FAIL_CHECK(finding.table, " ", finding.row, ": ", finding.what);
  }
}

inline std::string node_name(int number) {
  std::string digits = std::to_string(number);
  return std::string(64 - digits.size(), '0') + digits;
}

inline std::string wallet_name(int number) {
  std::string digits = std::to_string(number);
  return "0x" + std::string(40 - digits.size(), '0') + digits;
}

inline Far far(std::string_view text) { return *Far::parse(text); }

/// Three nodes with 11, 11 and 10 of 32 layers.
inline std::vector<WorkHop> three_hops() {
  return {{node_name(1), {0, 11}}, {node_name(2), {11, 22}}, {node_name(3), {22, 32}}};
}

inline WorkLog log_of(std::uint32_t output, std::uint32_t prompt = 0) {
  WorkLog log;
  log.add_prompt(three_hops(), prompt);
  log.add_output(three_hops(), output);
  return log;
}

inline SessionStart start_of(const std::string& request_id) {
  SessionStart start;
  start.request_id = request_id;
  start.user_wallet = wallet_name(900);
  start.model_id = "meta-llama/Llama-2-7b-chat-hf";
  start.body_digest = "digest of " + request_id;
  start.price_per_token = far("0.0001");
  start.coordinator = "one";
  return start;
}

}  // namespace farmesh::test

// A test case over both back ends begins with this.
#define FARMESH_SKIP_WITHOUT(world)                     \
  if (!(world).store) {                                 \
    MESSAGE("skipped: PostgreSQL 15 is not installed"); \
    return;                                             \
  }
