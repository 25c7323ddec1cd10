// What the mesh is paid by: a bill for each session of the ledger, kept until the receipts of its
// nodes are in, and written to the ledger together with the driver's signature.
//
// Takes prices and limits from live_turn.hpp, gives bills to the model's sessions. Payment never
// waits for a receipt: the step log pays. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <farmesh/ledger.hpp>
#include <farmesh/money.hpp>

#include "driver/bill.hpp"
#include "http/metrics.hpp"
#include "ledger/receipts.hpp"

namespace farmesh::gateway {

/// What a resumed session's nodes did once more, and earlier sessions of its request were charged
/// for: in receipts, and in no log. At most.
struct DoneAgain {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t tokens = 0;
};

class Metering {
 public:
  /// `store` null: nothing is written. `metrics` outlives this.
  Metering(std::shared_ptr<ledger::Store> store, http::Metrics& metrics)
      : store_(std::move(store)), metrics_(metrics) {}

  /// For a session that has just begun. The bill is kept here until every receipt has come, or
  /// kPatience after nobody else holds it.
  std::shared_ptr<driver::Bill> open(const std::string& session_id, Far price, Far prompt_price,
                                     std::uint32_t token_limit);

  /// The same for a session that an earlier process drove, by its log; its nodes have a while to
  /// come back with their receipts. `heard`: what they have said of it by now. It is agreed with
  /// where it goes beyond the log by no more than what was on its way between nodes at the end, and
  /// than `again`.
  std::shared_ptr<driver::Bill> expect(const std::string& session_id, const WorkLog& log,
                                       std::span<const wire::Receipt> heard = {},
                                       const DoneAgain& again = {});

  /// Writes the receipts that came since the last call; what the ledger cannot take now is tried
  /// again with the next.
  void collect();
  /// Some receipt of this process's own sessions may still come, or one is not written.
  bool waits() const;

  static constexpr std::chrono::seconds kPatience{60};
  static constexpr std::chrono::minutes kPatienceForEarlier{10};
  static constexpr std::uint64_t kOnItsWay = 128;  // tokens: a step of every text of a request

 private:
  struct Entry {
    std::shared_ptr<driver::Bill> bill;
    std::optional<std::chrono::steady_clock::time_point> ended;
    std::chrono::seconds patience = kPatience;
    bool of_earlier = false;
  };
  void gather();
  void count(const char* result, std::uint64_t receipts);

  const std::shared_ptr<ledger::Store> store_;
  http::Metrics& metrics_;
  std::mutex collecting_;  // one collect() at a time
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  std::vector<ledger::CheckedReceipt> unwritten_;
};

}  // namespace farmesh::gateway
