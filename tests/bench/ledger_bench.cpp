// How fast a hundred thousand unpaid contributions become a batch; on PostgreSQL also how many
// sessions end a second. SQLite's sessions and receipts are rows of `farmesh bench gateway`.
//
//   bench_ledger [URL]   on a SQLite file in a temporary folder, or on the database of URL
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <type_traits>
#include <vector>

#include "base/digest.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/payment_batches.hpp"
#include "ledger/receipts.hpp"
#include "support/temp_dir.hpp"

namespace farmesh {
namespace {

using Clock = std::chrono::steady_clock;
using ledger::CheckedReceipt;
using ledger::Store;

constexpr int kNodes = 3;
constexpr std::size_t kBatch = 500;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "bench_ledger: %s\n", result.error().to_string().c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

std::vector<identity::NodeKey> make_nodes(const std::shared_ptr<Store>& store) {
  std::vector<identity::NodeKey> keys;
  ledger::NodeRegistry registry(store);
  for (int i = 0; i < kNodes; ++i) {
    keys.push_back(identity::NodeKey::generate());
    ledger::NodeRegistration node;
    node.node_id = to_string(keys.back().id());
    node.wallet = "0x" + node.node_id.substr(0, 40);
    must(registry.register_node(node));
  }
  return keys;
}

WorkLog log_over(const std::vector<identity::NodeKey>& keys) {
  WorkLog log;
  log.add_output(std::vector<WorkHop>{{to_string(keys[0].id()), {0, 11}},
                                      {to_string(keys[1].id()), {11, 22}},
                                      {to_string(keys[2].id()), {22, 32}}},
                 512);
  return log;
}

std::vector<std::string> begin_many(ContributionLedger& book, const std::string& prefix,
                                    std::size_t count) {
  std::vector<SessionStart> starts(count);
  for (std::size_t i = 0; i < count; ++i) {
    starts[i].request_id = prefix + std::to_string(i);
    starts[i].user_wallet = "key:bench";
    starts[i].model_id = "bench";
    starts[i].price_per_token = Far::from_units(10'000);
  }
  std::vector<std::string> ids;
  for (auto& opened : must(book.begin_sessions(starts))) ids.push_back(must(opened).session_id);
  return ids;
}

std::vector<SessionOutcome> outcomes_of(const std::vector<std::string>& ids, const WorkLog& log) {
  std::vector<SessionOutcome> outcomes;
  for (const std::string& id : ids) outcomes.push_back({id, SessionStatus::completed, "", log});
  return outcomes;
}

/// Begins, records three verified receipts for, and ends `count` sessions; prints the rates.
void end_sessions(const std::shared_ptr<Store>& store, const char* what, std::size_t count) {
  ContributionLedger book(store);
  ledger::Receipts receipts(store);
  const auto keys = make_nodes(store);
  const WorkLog log = log_over(keys);
  const Span spans[kNodes] = {{0, 11}, {11, 22}, {22, 32}};
  double begun = 0, recorded = 0, ended = 0;
  const std::string prefix = to_string(keys[0].id()).substr(0, 8) + "/";
  for (std::size_t done = 0; done < count; done += kBatch) {
    auto start = Clock::now();
    const auto ids = begin_many(book, prefix + std::to_string(done) + "/", kBatch);
    begun += seconds_since(start);
    std::vector<CheckedReceipt> checked;
    for (const std::string& id : ids) {
      for (int node = 0; node < kNodes; ++node) {
        wire::Receipt receipt;
        const std::string digits =
            id.substr(0, 8) + id.substr(9, 4) + id.substr(14, 4) + id.substr(19, 4) + id.substr(24);
        from_hex(digits, receipt.account);
        receipt.node_id = keys[static_cast<std::size_t>(node)].id();
        receipt.span = spans[node];
        receipt.counts.decode = 512;
        const auto made = ledger::sign(receipt, keys[static_cast<std::size_t>(node)]);
        checked.push_back(must(CheckedReceipt::check(made)));
      }
    }
    start = Clock::now();
    must(receipts.record(checked));
    recorded += seconds_since(start);
    start = Clock::now();
    must(book.finalize_sessions(outcomes_of(ids, log)));
    ended += seconds_since(start);
  }
  const auto per_second = [count](double seconds) { return static_cast<double>(count) / seconds; };
  std::printf("%-24s begin %8.0f/s  3 receipts %8.0f/s  finalise %8.0f/s  all %8.0f sessions/s\n",
              what, per_second(begun), per_second(recorded), per_second(ended),
              per_second(begun + recorded + ended));
}

constexpr double kMostSeconds = 2;  // for a hundred thousand

/// A hundred thousand contributions of as many wallets as a batch takes.
void claim_many(const std::shared_ptr<Store>& store) {
  ContributionLedger book(store);
  constexpr std::size_t kSessions = 33'500;
  constexpr std::size_t kChunk = 200;  // with three nodes of its own: 504 wallets in all
  for (std::size_t done = 0; done < kSessions; done += kChunk) {
    const WorkLog log = log_over(make_nodes(store));
    const auto ids = begin_many(book, "claim/" + std::to_string(done) + "/", kChunk);
    must(book.finalize_sessions(outcomes_of(ids, log)));
  }
  ledger::ClaimOptions options;
  options.payable_before = store->now();
  options.minimum = Far::from_units(1);
  const auto start = Clock::now();
  const std::clock_t cpu = std::clock();
  ledger::PaymentBatches batches(store);
  const auto claimed = must(batches.claim(options));
  const double claiming = seconds_since(start);
  const double own = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
  if (!claimed) return;
  const auto rows = std::get<0>(*must(store->transact([&](ledger::Database& db) {
    return db.query_one<std::int64_t>(
        "SELECT count(*) FROM far_session_contributions WHERE batch_id = ?1", {claimed->id});
  })));
  std::printf("%-24s %8.0f contributions/s into a batch: %lld of %zu wallets, %s $FAR\n", "claim",
              static_cast<double>(rows) / claiming, static_cast<long long>(rows),
              claimed->items.size(), claimed->total.to_string().c_str());
  std::printf(
      "%-24s %8.2f s of the %.0f s that 100,000 may take, %.2f s of them this process's: %s\n", "",
      claiming, kMostSeconds, own, claiming < kMostSeconds && rows >= 100'000 ? "held" : "MISSED");
  const std::string hash = "0x" + std::string(64, '1');
  must(batches.submit(claimed->id, hash));
  const auto confirming = Clock::now();
  must(batches.confirm(claimed->id, {hash, 1, 1, "1"}));
  std::printf("%-24s %8.2f s\n", "confirm", seconds_since(confirming));
}

std::shared_ptr<Store> open(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  return must(Store::open(options));
}

int run(int argc, char** argv) {
  const test::TempDir folder;
  const auto store = open(argc > 1 ? argv[1] : (folder.path() / "ledger").string());
  if (argc > 1) end_sessions(store, "PostgreSQL", 2'000);
  claim_many(store);
  return 0;
}

}  // namespace
}  // namespace farmesh

int main(int argc, char** argv) { return farmesh::run(argc, argv); }
