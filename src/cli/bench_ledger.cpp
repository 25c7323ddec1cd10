// The ledger's part of farmesh bench gateway: sessions that end, receipts that are verified.
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <farmesh/ledger.hpp>

#include "base/digest.hpp"
#include "cli/bench.hpp"
#include "ledger/checks.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/receipts.hpp"
#include "ledger/store.hpp"

namespace farmesh::cli {
namespace {

using Clock = std::chrono::steady_clock;
using ledger::CheckedReceipt;

constexpr std::size_t kSessions = 10'000;
constexpr std::size_t kBatch = 500;
constexpr std::size_t kVerified = 5'000;
constexpr Span kSpans[] = {{0, 11}, {11, 22}, {22, 32}};
constexpr std::uint32_t kTokens = 512;

struct Rates {
  double finalised = 0;  // sessions a second
  double whole = 0;      // begun, receipted and finalised
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

WorkLog log_over(const std::vector<identity::NodeKey>& keys) {
  std::vector<WorkHop> route;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    route.push_back({to_string(keys[i].id()), kSpans[i]});
  }
  WorkLog log;
  log.add_output(route, kTokens);
  return log;
}

wire::SignedReceipt receipt_of(const std::string& session, const identity::NodeKey& key,
                               Span span) {
  wire::Receipt receipt;
  receipt.account = ledger::uuid_bytes(session);
  receipt.node_id = key.id();
  receipt.span = span;
  receipt.counts.decode = kTokens;
  return ledger::sign(receipt, key);
}

Result<std::vector<std::string>> begin(ContributionLedger& book, std::size_t from) {
  std::vector<SessionStart> starts(kBatch);
  for (SessionStart& start : starts) {
    start.request_id = "bench/" + std::to_string(from++);
    start.user_wallet = "key:bench";
    start.model_id = "bench";
    start.price_per_token = Far::from_units(10'000);
  }
  const auto opened = book.begin_sessions(starts);
  if (!opened) return opened.error();
  std::vector<std::string> ids;
  for (const auto& one : *opened) {
    if (!one) return one.error();
    ids.push_back(one->session_id);
  }
  return ids;
}

Result<std::vector<CheckedReceipt>> checked_receipts(const std::vector<std::string>& sessions,
                                                     const std::vector<identity::NodeKey>& keys) {
  std::vector<CheckedReceipt> all;
  for (const std::string& session : sessions) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      auto checked = CheckedReceipt::check(receipt_of(session, keys[i], kSpans[i]));
      if (!checked) return checked.error();
      all.push_back(*std::move(checked));
    }
  }
  return all;
}

// Sessions of 512 tokens over three nodes, five hundred in a transaction.
Result<Rates> rates(const std::string& file, bool durable) {
  LedgerOptions options;
  options.url = file;
  options.durable = durable;
  const auto store = ledger::Store::open(std::move(options));
  if (!store) return store.error();
  ledger::NodeRegistry registry(*store);
  std::vector<identity::NodeKey> keys;
  for (std::size_t i = 0; i < std::size(kSpans); ++i) {
    keys.push_back(identity::NodeKey::generate());
    ledger::NodeRegistration node;
    node.node_id = to_string(keys.back().id());
    if (const auto entered = registry.register_node(node); !entered) return entered.error();
  }
  ContributionLedger book(*store);
  ledger::Receipts receipts(*store);
  const WorkLog log = log_over(keys);
  double finalising = 0, before = 0;
  for (std::size_t done = 0; done < kSessions; done += kBatch) {
    Clock::time_point start = Clock::now();
    const auto ids = begin(book, done);
    before += seconds_since(start);
    if (!ids) return ids.error();
    const auto checked = checked_receipts(*ids, keys);
    if (!checked) return checked.error();
    std::vector<SessionOutcome> outcomes;
    for (const std::string& id : *ids) outcomes.push_back({id, SessionStatus::completed, "", log});
    start = Clock::now();
    const auto recorded = receipts.record(*checked);
    before += seconds_since(start);
    if (!recorded) return recorded.error();
    start = Clock::now();
    const auto ended = book.finalize_sessions(outcomes);
    finalising += seconds_since(start);
    if (!ended) return ended.error();
  }
  return Rates{double(kSessions) / finalising, double(kSessions) / (finalising + before)};
}

Result<double> verified_a_second() {
  const auto key = identity::NodeKey::generate();
  const wire::SignedReceipt receipt =
      receipt_of("00000000-0000-4000-8000-000000000000", key, kSpans[0]);
  const Clock::time_point start = Clock::now();
  for (std::size_t i = 0; i < kVerified; ++i) {
    if (const auto checked = CheckedReceipt::check(receipt); !checked) return checked.error();
  }
  return double(kVerified) / seconds_since(start);
}

BenchRow row(std::string what, double full, double normal) {
  BenchRow row;
  row.bench = "gateway";
  row.shape = "ledger";
  row.what = std::move(what);
  row.value = full;
  row.unit = "a second";
  if (normal > 0) {
    row.beside = "synchronous=NORMAL";
    row.other = normal;
  }
  return row;
}

}  // namespace

Result<Rows> ledger_rows(const std::string& folder) {
  const Result<Rates> normal = rates(folder + "/normal.sqlite", false);
  if (!normal) return normal.error();
  const Result<Rates> full = rates(folder + "/full.sqlite", true);
  if (!full) return full.error();
  const Result<double> verified = verified_a_second();
  if (!verified) return verified.error();
  BenchRow ended = row("sessions ended, FULL", full->finalised, normal->finalised);
  ended.bound = "at least 5,000";
  ended.held = full->finalised >= 5'000;
  return Rows{std::move(ended), row("begun, receipted, ended", full->whole, normal->whole),
              row("receipts verified", *verified, 0)};
}

}  // namespace farmesh::cli
