#include "gateway/metering.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "base/log.hpp"
#include "ledger/checks.hpp"

namespace farmesh::gateway {

std::shared_ptr<driver::Bill> Metering::open(const std::string& session_id, Far price,
                                             Far prompt_price, std::uint32_t token_limit) {
  driver::BillTerms terms;
  terms.account = ledger::uuid_bytes(session_id);
  terms.price_per_token = price;
  terms.price_per_prompt_token = prompt_price;
  terms.token_limit = token_limit;
  auto bill = std::make_shared<driver::Bill>(terms);
  const std::lock_guard lock(mutex_);
  entries_.push_back({bill, std::nullopt});
  return bill;
}

std::shared_ptr<driver::Bill> Metering::expect(const std::string& session_id, const WorkLog& log,
                                               std::span<const wire::Receipt> heard,
                                               const DoneAgain& again) {
  driver::BillTerms terms;
  terms.account = ledger::uuid_bytes(session_id);
  auto bill = std::make_shared<driver::Bill>(terms);
  std::map<std::pair<NodeId, Span>, wire::TokenCounts> logged;
  const auto add = [&](const WorkSegment& segment, bool prompt) {
    for (const WorkHop& hop : segment.route) {
      const Result<NodeId> node = parse_node_id(hop.node_id);
      if (!node) continue;  // the operator's own
      bill->expect(*node, hop.layers, prompt ? segment.tokens : 0, prompt ? 0 : segment.tokens);
      wire::TokenCounts& counts = logged[{*node, hop.layers}];
      (prompt ? counts.prefill : counts.decode) += segment.tokens;
    }
  };
  for (const WorkSegment& segment : log.prompt) add(segment, true);
  for (const WorkSegment& segment : log.output) add(segment, false);
  for (auto& [place, counts] : logged) {
    const wire::TokenCounts owed = counts;
    for (const wire::Receipt& receipt : heard) {
      if (receipt.node_id != place.first || receipt.span != place.second) continue;
      const std::uint64_t prefill = std::max(receipt.counts.prefill, counts.prefill);
      const std::uint64_t decode = std::max(receipt.counts.decode, counts.decode);
      if (prefill > owed.prefill + again.prompt_tokens) continue;
      if (owed.decode == 0 || decode > owed.decode + again.tokens + kOnItsWay) continue;
      bill->expect(place.first, place.second, std::uint32_t(prefill - counts.prefill),
                   std::uint32_t(decode - counts.decode));
      counts.prefill = prefill;
      counts.decode = decode;
    }
  }
  const std::lock_guard lock(mutex_);
  entries_.push_back({bill, std::nullopt, kPatienceForEarlier, true});
  return bill;
}

void Metering::count(const char* result, std::uint64_t receipts) {
  if (receipts == 0) return;
  metrics_
      .counter("far_mesh_receipts_total", "Receipts of nodes, by what became of them",
               {{"result", result}})
      .add(double(receipts));
}

// Takes what came from every bill, and lets go of those that wait for nothing more.
void Metering::gather() {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(entries_, [&](Entry& entry) {
    // Asked before the receipts are taken: one that comes in between is not lost.
    const bool over = entry.bill.use_count() == 1;
    for (const wire::JudgedReceipt& receipt : entry.bill->receipts()) {
      auto checked = ledger::CheckedReceipt::check(receipt);
      count(!checked ? "refused" : receipt.driver_key ? "agreed" : "disputed", 1);
      if (checked) unwritten_.push_back(*std::move(checked));
    }
    if (!over) return false;
    if (!entry.ended) entry.ended = now;
    if (!entry.bill->complete() && now - *entry.ended < entry.patience) return false;
    count("refused", entry.bill->refused());
    return true;
  });
}

void Metering::collect() {
  if (!store_) return;
  const std::lock_guard one_at_a_time(collecting_);
  std::vector<ledger::CheckedReceipt> receipts;
  {
    const std::lock_guard lock(mutex_);
    gather();
    receipts = std::exchange(unwritten_, {});
  }
  if (receipts.empty()) return;
  const auto written = ledger::Receipts(store_).record(receipts);
  if (!written) {
    log(LogLevel::error, "gateway", "receipts: " + written.error().to_string());
    const std::lock_guard lock(mutex_);
    unwritten_.insert(unwritten_.begin(), receipts.begin(), receipts.end());
    return;
  }
  for (const Result<void>& one : *written) {
    if (one) continue;
    count("not_written", 1);
    log(LogLevel::warning, "gateway", "a receipt was not written: " + one.error().to_string());
  }
}

bool Metering::waits() const {
  const std::lock_guard lock(mutex_);
  if (!unwritten_.empty()) return true;
  for (const Entry& entry : entries_) {
    if (!entry.of_earlier && !entry.bill->complete()) return true;
  }
  return false;
}

}  // namespace farmesh::gateway
