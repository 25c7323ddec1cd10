#include "driver/bill.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

namespace farmesh::driver {
namespace {

Error invalid(const char* why) { return {Errc::receipt_invalid, std::string("receipt: ") + why}; }

bool goes_on(const wire::TokenCounts& earlier, const wire::TokenCounts& later) {
  return later.prefill >= earlier.prefill && later.cached >= earlier.cached &&
         later.decode >= earlier.decode && later.replay >= earlier.replay &&
         later.rejected >= earlier.rejected && later.standby >= earlier.standby;
}

}  // namespace

const std::vector<std::uint8_t>& Bill::grant(const ModelHash& model,
                                             const identity::NodeKey& driver) {
  if (!grant_.empty()) return grant_;
  using std::chrono::milliseconds;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  wire::SignedGrant out;
  out.grant.account = terms_.account;
  out.grant.model_hash = model;
  out.grant.price_per_token = terms_.price_per_token;
  out.grant.price_per_prompt_token = terms_.price_per_prompt_token;
  out.grant.token_limit = terms_.token_limit;
  out.grant.issued_ms = std::chrono::duration_cast<milliseconds>(now).count();
  out.grant.expires_ms = out.grant.issued_ms + milliseconds(terms_.lifetime).count();
  out.payer_key = driver.public_key();
  const auto body = wire::encode(out.grant);
  out.signature = driver.sign(wire::kGrantDomain, std::as_bytes(std::span(body)));
  grant_ = wire::encode(out);
  return grant_;
}

Bill::Tally& Bill::tally(const NodeId& node, Span layers, const std::shared_ptr<const void>& link) {
  const std::lock_guard lock(mutex_);
  Tally& tally = tallies_[{node, layers}];
  if (link == nullptr) return tally;
  const std::weak_ptr<const void> now = link;
  const bool same = !tally.link_.owner_before(now) && !now.owner_before(tally.link_);
  tally.was_lost_ = tally.was_lost_ || (tally.remote_ && !same);
  tally.remote_ = true;
  tally.link_ = now;
  return tally;
}

Result<Bill::Tally*> Bill::fitting(const NodeId& from, const wire::SignedReceipt& receipt) {
  const wire::Receipt& told = receipt.receipt;
  if (told.node_id != from || identity::node_id_of(receipt.node_key) != from) {
    return invalid("another node's");
  }
  if (told.account != terms_.account) return invalid("of another session");
  auto known = tallies_.find({told.node_id, told.span});
  if (known == tallies_.end() && terms_.of_another && tallies_.size() < kMaxTellers) {
    known = tallies_.try_emplace({told.node_id, told.span}).first;
    known->second.remote_ = true;
  }
  if (known == tallies_.end() || told.head) return invalid("of layers that it does not serve here");
  Tally& tally = known->second;
  if (tally.newest_) {
    if (told.sequence <= tally.newest_->sequence) return invalid("not newer than the last");
    if (!goes_on(tally.newest_->counts, told.counts)) return invalid("smaller than the last");
  }
  if (tally.receipts_ >= kMaxReceipts) return invalid("too many");
  return &tally;
}

Result<void> Bill::take(const NodeId& from, const wire::SignedReceipt& receipt,
                        const identity::NodeKey& driver) {
  const std::lock_guard lock(mutex_);
  const Result<Tally*> fits = fitting(from, receipt);
  if (!fits) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return fits.error();
  }
  Tally& tally = **fits;
  tally.newest_ = receipt.receipt;
  ++tally.receipts_;
  const wire::TokenCounts& counts = receipt.receipt.counts;
  const bool no_more = counts.decode <= tally.decode() && counts.prefill <= tally.prefill();
  const bool equal = counts.decode == tally.decode() && counts.prefill == tally.prefill();
  const bool agreed =
      !terms_.of_another && (equal || (no_more && (!receipt.receipt.final || tally.was_lost_)));
  taken_.push_back({receipt, agreed ? std::optional(driver) : std::nullopt});
  return {};
}

std::vector<wire::JudgedReceipt> Bill::receipts() {
  std::vector<Taken> taken;
  {
    const std::lock_guard lock(mutex_);
    taken = std::exchange(taken_, {});
  }
  std::vector<wire::JudgedReceipt> judged;
  for (const Taken& one : taken) {
    const wire::SignedReceipt& receipt = one.receipt;
    const auto body = wire::encode(receipt.receipt);
    if (!identity::verify(receipt.node_key, wire::kReceiptDomain, std::as_bytes(std::span(body)),
                          receipt.node_signature)) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    wire::JudgedReceipt& next = judged.emplace_back();
    next.receipt = receipt;
    if (!one.countersigns) continue;
    next.driver_key = one.countersigns->public_key();
    next.driver_signature =
        one.countersigns->sign(wire::kCountersignDomain, std::as_bytes(std::span(body)));
  }
  return judged;
}

void Bill::expect(const NodeId& node, Span layers, std::uint32_t prefill, std::uint32_t decode) {
  const std::lock_guard lock(mutex_);
  Tally& tally = tallies_[{node, layers}];
  tally.add(prefill, decode);
  tally.remote_ = true;
  tally.was_lost_ = true;
}

bool Bill::wants(const NodeId& node) {
  const std::lock_guard lock(mutex_);
  const auto first = tallies_.lower_bound({node, Span{}});
  bool wants = terms_.of_another && (first == tallies_.end() || first->first.first != node);
  for (auto at = first; at != tallies_.end(); ++at) {
    Tally& tally = at->second;
    if (at->first.first != node) break;
    if (!tally.remote_ || (tally.newest_ && tally.newest_->final)) continue;
    tally.was_lost_ = true;
    wants = true;
  }
  return wants;
}

bool Bill::complete() const {
  const std::lock_guard lock(mutex_);
  return taken_.empty() && std::ranges::all_of(tallies_, [](const auto& entry) {
           const Tally& tally = entry.second;
           const bool idle = tally.decode() == 0 && tally.prefill() == 0;
           if (!tally.remote_ || (idle && !tally.newest_)) return true;
           if (!tally.newest_ || !tally.newest_->final) return false;
           return tally.was_lost_ || (tally.newest_->counts.decode == tally.decode() &&
                                      tally.newest_->counts.prefill == tally.prefill());
         });
}

}  // namespace farmesh::driver
