#include "serve/meter.hpp"

#include <algorithm>
#include <span>
#include <string>

namespace farmesh::serve {
namespace {

constexpr std::int64_t kClockTolerance_ms = 60'000;

Error invalid(const char* why) { return {Errc::receipt_invalid, std::string("grant: ") + why}; }

/// How many of [begin, end) lie below `limit`.
std::uint32_t below(std::uint32_t begin, std::uint32_t end, std::uint32_t limit) {
  return std::min(end, limit) - std::min(begin, limit);
}

std::uint32_t tokens_of(const wire::Step& step) {
  switch (step.want) {
    case wire::Want::nothing: return 0;
    case wire::Want::last_row: return 1;
    case wire::Want::all_rows: return step.count;
  }
  return 0;
}

}  // namespace

struct Meter::Tally {
  Key key;
  wire::Receipt receipt;  // with the counts so far, and the newest receipt's sequence
  std::uint32_t token_limit = 0;
  std::uint64_t unsettled = 0;      // output tokens of rows that are not known to be used
  std::uint64_t unsigned_rows = 0;  // counted since the newest receipt
  TimePoint unsigned_since{};       // when the first of them was
  std::uint32_t sessions = 0;       // open
  std::uint32_t closings = 0;
};

Meter::Meter(NodeId self, MeterOptions options) : self_(self), options_(std::move(options)) {}

std::int64_t Meter::utc_ms() const {
  if (options_.utc_ms) return options_.utc_ms();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

Result<std::optional<wire::Grant>> Meter::admit(const wire::Open& open,
                                                const NodeId& driver) const {
  if (!options_.key) return std::optional<wire::Grant>();
  if (open.grant.empty()) {
    if (may_generate_for(driver)) return std::optional<wire::Grant>();
    return Error{Errc::grant_required, "this node serves only what a signed grant pays for"};
  }
  const Result<wire::SignedGrant> decoded = wire::decode_signed_grant(open.grant);
  if (!decoded) return decoded.error();
  const wire::Grant& grant = decoded->grant;
  if (identity::node_id_of(decoded->payer_key) != driver)
    return invalid("its payer does not drive");
  const auto& payers = options_.payers;
  if (!payers.empty() && std::find(payers.begin(), payers.end(), driver) == payers.end()) {
    return invalid("its payer is not among those that this node serves");
  }
  if (grant.model_hash != open.model_hash) return invalid("for another model");
  if (grant.token_limit == 0) return invalid("for no token");
  const std::int64_t now = utc_ms();
  if (grant.expires_ms + kClockTolerance_ms < now) return invalid("it has expired");
  if (grant.issued_ms - kClockTolerance_ms > now) return invalid("issued in the future");
  const auto body = wire::encode(grant);
  if (!identity::verify(decoded->payer_key, wire::kGrantDomain, std::as_bytes(std::span(body)),
                        decoded->signature)) {
    return invalid("its payer did not sign it");
  }
  return std::optional(grant);
}

bool Meter::may_generate_for(const NodeId& client) const noexcept {
  return !options_.demands_grants || client == self_;
}

void Meter::open(Count& count, const std::optional<wire::Grant>& grant, const NodeId& driver,
                 const wire::Open& open, std::uint32_t held) {
  const bool same =
      grant && count.tally_ && count.tally_->key == Key(grant->account, driver, open.span);
  if (same) {
    count.tally_->token_limit = grant->token_limit;
    return;
  }
  if (count.tally_) close(count, std::nullopt, /*reachable=*/false);
  count = {};
  if (!grant) return;
  const Key key(grant->account, driver, open.span);
  std::shared_ptr<Tally>& tally = tallies_[key];
  if (!tally) {
    tally = std::make_shared<Tally>();
    tally->key = key;
    tally->receipt.account = grant->account;
    tally->receipt.node_id = self_;
    tally->receipt.span = open.span;
  }
  tally->token_limit = grant->token_limit;
  ++tally->sessions;
  count.tally_ = tally;
  count.prompt_end_ = open.prompt_positions;
  count.held_ = held;
}

Result<void> Meter::allow(const Count& count, const wire::Step& step) const {
  if (!count || step.replay || step.standby) return {};
  const Tally& tally = *count.tally_;
  std::uint64_t tokens = tally.receipt.counts.decode + tally.unsettled + tokens_of(step);
  if (step.position < count.end_) tokens -= count.tokens_;  // in their place
  if (tokens <= tally.token_limit) return {};
  return {Errc::quota, "grant: its tokens are used up"};
}

void Meter::add(Count& count, const wire::Step& step, bool passed_on, TimePoint now) {
  if (!count) return;
  Tally& tally = *count.tally_;
  wire::TokenCounts& counts = tally.receipt.counts;
  const bool was_signed = tally.unsigned_rows == 0;
  if (!count.begun_) {
    count.begun_ = true;
    counts.cached += std::min({count.held_, step.position, count.prompt_end_});
    count.begin_ = count.end_ = step.position;
  }
  if (step.standby || step.replay || !passed_on) {
    (step.standby ? counts.standby : step.replay ? counts.replay : counts.rejected) += step.count;
    tally.unsigned_rows += step.count;
  } else {
    // A step behind an answered row tells that the row was used; one in its place, that it was not.
    const bool goes_on = step.position == count.end_ && count.tokens_ == 0;
    if (!goes_on) {
      settle(count, step.position);
      count.begin_ = step.position;
    }
    count.end_ = step.position + step.count;
    count.tokens_ = tokens_of(step);
    tally.unsettled += count.tokens_;
  }
  if (was_signed) tally.unsigned_since = now;
}

/// Of the rows in question, those below `used` were used, and no others.
void Meter::settle(Count& count, std::uint32_t used) noexcept {
  Tally& tally = *count.tally_;
  wire::TokenCounts& counts = tally.receipt.counts;
  const std::uint32_t end = std::clamp(used, count.begin_, count.end_);
  const std::uint32_t lost = count.end_ - end;
  counts.prefill += below(count.begin_, end, count.prompt_end_);
  counts.decode += count.tokens_ - std::min(lost, count.tokens_);
  counts.rejected += lost;
  tally.unsigned_rows += count.end_ - count.begin_;
  tally.unsettled -= count.tokens_;
  count.begin_ = count.end_ = end;
  count.tokens_ = 0;
}

std::optional<wire::SignedReceipt> Meter::due(const Count& count, TimePoint now) {
  if (!count || count.tally_->unsigned_rows == 0) return std::nullopt;
  Tally& tally = *count.tally_;
  const bool many = tally.unsigned_rows >= options_.receipt_tokens;
  if (!many && now - tally.unsigned_since < options_.receipt_time) return std::nullopt;
  return sign(tally, /*final=*/false);
}

std::optional<wire::SignedReceipt> Meter::close(Count& count,
                                                std::optional<std::uint32_t> positions,
                                                bool reachable) {
  if (!count) return std::nullopt;
  settle(count, positions.value_or(count.begin_));
  const std::shared_ptr<Tally> tally = std::exchange(count, {}).tally_;
  --tally->sessions;
  const bool tells = tally->unsigned_rows > 0 || tally->receipt.sequence > 0;
  std::optional<wire::SignedReceipt> last;
  if (tally->sessions == 0 && tells && reachable) last = sign(*tally, positions.has_value());
  if (tally->sessions == 0) let_go(tally);
  return last;
}

std::vector<wire::SignedReceipt> Meter::again(const NodeId& asker, const wire::AccountId& account) {
  std::vector<Tally*> own, all;
  bool open = false, one_payer = true;
  for (auto at = tallies_.lower_bound(Key(account, NodeId{}, Span{})); at != tallies_.end(); ++at) {
    const auto& [session, payer, layers] = at->first;
    if (session != account) break;
    Tally& tally = *at->second;
    open = open || tally.sessions > 0;
    one_payer = one_payer && (all.empty() || payer == std::get<NodeId>(all.front()->key));
    all.push_back(&tally);
    if (payer == asker) own.push_back(&tally);
  }
  const bool any_may_know = one_payer && !open;
  std::vector<wire::SignedReceipt> receipts;
  for (Tally* tally : own.empty() && any_may_know ? all : own) {
    if (tally->unsigned_rows == 0 && tally->receipt.sequence == 0) continue;
    receipts.push_back(sign(*tally, tally->sessions == 0));
  }
  return receipts;
}

wire::SignedReceipt Meter::sign(Tally& tally, bool final) {
  tally.unsigned_rows = 0;
  ++tally.receipt.sequence;
  wire::SignedReceipt out;
  out.receipt = tally.receipt;
  out.receipt.final = final;
  out.receipt.made_ms = utc_ms();
  out.node_key = options_.key->public_key();
  const auto body = wire::encode(out.receipt);
  out.node_signature = options_.key->sign(wire::kReceiptDomain, std::as_bytes(std::span(body)));
  return out;
}

/// Keeps the newest of those that no session belongs to.
void Meter::let_go(const std::shared_ptr<Tally>& tally) {
  closed_.emplace_back(tally->key, ++tally->closings);
  while (closed_.size() > options_.max_closed) {
    const auto& [key, closing] = closed_.front();
    const auto old = tallies_.find(key);
    const bool gone =
        old != tallies_.end() && old->second->sessions == 0 && old->second->closings == closing;
    if (gone) tallies_.erase(old);
    closed_.pop_front();
  }
}

}  // namespace farmesh::serve
