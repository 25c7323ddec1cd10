#include "payout/payer.hpp"

#include <algorithm>
#include <utility>

#include "base/digest.hpp"
#include "base/log.hpp"

namespace farmesh::payout {
namespace {

// Estimates are made on a state that moves on: a new recipient costs more than a known one.
constexpr std::uint64_t kGasMargin = 5;  // a fifth more

std::string random_owner() {
  std::array<std::uint8_t, 16> bytes;
  random_bytes(bytes);
  return to_hex(bytes);
}

std::string gwei_text(const evm::U256& wei) {
  std::string digits = wei.to_decimal();
  if (digits.size() < 10) digits.insert(0, 10 - digits.size(), '0');
  return digits.substr(0, digits.size() - 9) + '.' + digits.substr(digits.size() - 9);
}

std::vector<ledger::UserCharge> user_charges(const std::vector<Charge>& charges) {
  std::vector<ledger::UserCharge> all;
  for (const Charge& charge : charges) {
    const bool on_credit = charge.request == evm::Bytes32{};
    all.push_back({evm::to_lower_case(charge.who), charge.amount,
                   on_credit ? std::string() : evm::to_hex0x(charge.request)});
  }
  return all;
}

std::optional<Part> operator_of(const ledger::StoredTransaction& stored) {
  const auto wallet = evm::parse_address(stored.operator_wallet);
  return wallet ? std::optional(Part{*wallet, stored.operator_pay}) : std::nullopt;
}

bool payable_address(const evm::Address& address, const evm::Address& escrow) {
  return !address.is_zero() && address != escrow;
}

}  // namespace

std::string_view name(Did did) noexcept {
  switch (did) {
    case Did::idle: return "idle";
    case Did::standby: return "standby";
    case Did::paused: return "paused";
    case Did::claimed: return "claimed";
    case Did::held: return "held";
    case Did::sent: return "sent";
    case Did::waiting: return "waiting";
    case Did::confirmed: return "confirmed";
    case Did::reopened: return "reopened";
    case Did::failed: return "failed";
    case Did::errand: return "errand";
  }
  return "?";
}

// A transaction of a batch, as it was written down before it was sent.
struct Payer::Sent {
  ledger::StoredTransaction stored;
  evm::SignedTransaction transaction;
};

Payer::Payer(std::shared_ptr<ledger::Store> store, Chain& chain, evm::Signer& signer,
             PayerOptions options)
    : store_(std::move(store)),
      chain_(chain),
      signer_(signer),
      options_(std::move(options)),
      batches_(store_),
      book_(store_),
      reservations_(store_),
      errands_(store_, chain, signer,
               {options_.confirmations, options_.max_fee_per_gas, options_.stuck_after,
                options_.retry_after}) {
  if (options_.owner.empty()) options_.owner = random_owner();
  if (!options_.backing) options_.backing = signer_.address();
  if (!options_.operator_wallet) options_.operator_wallet = options_.backing;
  if (!payable_address(*options_.operator_wallet, chain.escrow())) {
    options_.operator_wallet = signer_.address();
  }
  options_.confirmations = std::max<std::uint64_t>(options_.confirmations, 1);
}

std::string Payer::lease_name() const {
  return "payout " + std::to_string(chain_.id()) + " " + evm::to_lower_case(signer_.address());
}

std::string Payer::schedule_name() const { return "last run " + std::to_string(chain_.id()); }

Result<void> Payer::yield() {
  if (!lease_) return {};
  const Result<void> done = book_.yield(*lease_);
  lease_.reset();
  return done;
}

Result<Step> Payer::step() {
  auto lease = book_.acquire(lease_name(), options_.owner, options_.lease);
  if (!lease) return lease.error();
  lease_ = *std::move(lease);
  if (!lease_) return Step{Did::standby, "", "another payer sends for this address"};

  auto reopened = watch_confirmed();
  if (!reopened) return reopened.error();
  if (*reopened) return **std::move(reopened);

  const auto paused = book_.paused();
  if (!paused) return paused.error();
  auto batch = next_batch();
  if (!batch) return batch.error();
  const bool under_way = *batch && (*batch)->status == ledger::BatchStatus::submitted;
  // By turns: requests that keep coming must not keep the nodes from being paid.
  const bool errands_turn = !std::exchange(batches_turn_, false);
  const auto errand = errands_.step(*lease_, !*paused && !under_way, errands_turn);
  if (!errand) return errand.error();
  if (*errand && !under_way) return did_errand(**errand);
  // What was sent is seen through; nothing new begins.
  if (*paused && !under_way) return Step{Did::paused, "", **paused};
  if (*batch) return drive(**batch);
  auto claimed = claim();
  if (!claimed) return claimed.error();
  if (*claimed) return **std::move(claimed);
  if (!errands_turn) {
    const auto next = errands_.step(*lease_, true, true);
    if (!next) return next.error();
    if (*next) return did_errand(**next);
  }
  return Step{Did::idle, "", "nothing is due"};
}

Step Payer::did_errand(std::string what) {
  batches_turn_ = true;
  return Step{Did::errand, "", std::move(what)};
}

// Confirmed is not for ever: for a day each batch is looked for again.
Result<std::optional<Step>> Payer::watch_confirmed() {
  const auto recent = batches_.confirmed_since(now() - options_.watch);
  if (!recent) return recent.error();
  for (const ledger::ConfirmedBatch& batch : *recent) {
    const auto on_chain = chain_.batch(batch_key(batch.id));
    if (!on_chain) return on_chain.error();
    if (on_chain->settled_block != 0) continue;
    // An endpoint that lags behind knows it neither: the block must be passed, the receipt gone.
    const auto head = chain_.head();
    if (!head) return head.error();
    if (*head < batch.block_number) continue;
    evm::Bytes32 hash{};
    if (evm::parse_hex0x_into(batch.tx_hash, hash)) {
      const auto receipt = chain_.receipt(hash);
      if (!receipt) return receipt.error();
      if (*receipt) continue;
    }
    const Result<void> opened = batches_.reopen(batch.id);
    if (!opened) return opened.error();
    reopened_[batch.id] = now();
    return std::optional(
        Step{Did::reopened, batch.id, "the chain forgot " + batch.tx_hash + ": it is sent again"});
  }
  return std::optional<Step>();
}

// Those that were sent come first: they hold a nonce. One that the chain refuses steps aside.
Result<std::optional<ledger::PaymentBatch>> Payer::next_batch() {
  auto open = batches_.open_batches();
  if (!open) return open.error();
  for (ledger::PaymentBatch& batch : *open) {
    if (batch.status == ledger::BatchStatus::submitted) return std::optional(std::move(batch));
  }
  for (ledger::PaymentBatch& batch : *open) {
    if (batch.items.empty()) {  // all of it is held, or it is there to charge
      const auto ending = reservations_end();
      if (!ending) return ending.error();
      if (!*ending) continue;
    }
    const auto refused = refused_.find(batch.id);
    const bool rests = refused != refused_.end() && now() >= refused->second &&
                       now() < refused->second + options_.retry_after;
    if (!rests) return std::optional(std::move(batch));
  }
  return std::optional<ledger::PaymentBatch>();
}

Result<std::optional<Step>> Payer::claim() {
  auto last_call = reservations_end();
  if (last_call && *last_call) {
    const auto open = batches_.open_batches();
    if (!open) return open.error();
    // One that the chain has refused is tried again, not made again.
    *last_call = std::ranges::none_of(*open, [](const auto& one) { return one.items.empty(); });
  }
  if (!last_call) return last_call.error();
  bool due = true;
  if (options_.schedule && !run_now_) {
    const auto last = book_.last_run(schedule_name());
    if (!last) return last.error();
    if (!*last) {  // the first week has begun
      const Result<void> noted = book_.set_last_run(schedule_name(), now());
      if (!noted) return noted.error();
    }
    due = *last && **last < last_moment(*options_.schedule, now());
  }
  if (!due && !*last_call) return std::optional<Step>();
  auto wanted = claim_options();
  if (!wanted) return wanted.error();
  wanted->even_empty = *last_call;
  if (!due) wanted->max_wallets = 0;  // nodes' day has not come
  const auto batch = batches_.claim(*wanted);
  if (!batch) return batch.error();
  if (*batch) {
    return std::optional(Step{Did::claimed, (*batch)->id,
                              std::to_string((*batch)->items.size()) + " wallets, " +
                                  (*batch)->total.to_string() + " $FAR"});
  }
  if (wanted->max_total) {
    ledger::ClaimOptions without = *wanted;
    without.max_total.reset();
    const auto more = batches_.payable(without);
    if (!more) return more.error();
    if (!more->empty()) {
      return std::optional(Step{Did::waiting, "",
                                "the daily limit leaves " + wanted->max_total->to_string() +
                                    " $FAR: " + std::to_string(more->size()) + " wallets wait"});
    }
  }
  if (!options_.schedule) return std::optional<Step>();
  run_now_ = false;
  const Result<void> noted = book_.set_last_run(schedule_name(), now());
  if (!noted) return noted.error();
  return std::optional<Step>();
}

Result<Step> Payer::drive(const ledger::PaymentBatch& batch) {
  const auto stored = book_.transactions(batch.id);
  if (!stored) return stored.error();
  std::vector<Sent> sent;
  for (const ledger::StoredTransaction& one : *stored) {
    if (one.chain_id != chain_.id()) {
      return Error{Errc::config_invalid,
                   "batch " + batch.id + " was sent on chain " + std::to_string(one.chain_id)};
    }
    auto decoded = evm::decode_transaction(one.raw);
    if (!decoded || evm::to_hex0x(decoded->hash) != one.tx_hash) {
      return Error{Errc::ledger_damaged, "transaction " + one.tx_hash + " is not what it was"};
    }
    sent.push_back({one, *std::move(decoded)});
  }
  if (!sent.empty()) return look_after(batch, sent);
  auto held = hold_unpayable(batch);
  if (!held) return held.error();
  if (*held) return **std::move(held);
  return send_new(batch);
}

// What became of the transactions of a batch.
Result<Step> Payer::look_after(const ledger::PaymentBatch& batch, const std::vector<Sent>& sent) {
  for (const Sent& one : sent) {
    const auto receipt = chain_.receipt(one.transaction.hash);
    if (!receipt) return receipt.error();
    if (*receipt && (*receipt)->succeeded) return confirm(batch, one, **receipt);
  }
  const auto on_chain = chain_.batch(batch_key(batch.id));
  if (!on_chain) return on_chain.error();
  if (on_chain->settled_block != 0) {
    return Step{Did::waiting, batch.id, "settled, but no endpoint shows its receipt yet"};
  }
  const auto nonce = chain_.next_nonce(signer_.address());
  if (!nonce) return nonce.error();
  // The newest that can still be mined: with the highest fee of its nonce.
  const auto live = std::find_if(sent.rbegin(), sent.rend(), [&](const Sent& one) {
    return one.transaction.sender == signer_.address() &&
           one.transaction.transaction.nonce >= *nonce;
  });
  if (live == sent.rend()) {
    // All are dead: reverted, or their nonces were used by others. The id is free still.
    const auto paused = book_.paused();
    if (!paused) return paused.error();
    if (*paused) return Step{Did::paused, batch.id, **paused};
    auto held = hold_unpayable(batch);
    if (!held) return held.error();
    if (*held) return **std::move(held);
    return send_new(batch);
  }
  LedgerTime since = live->stored.created_at;
  // After a reorganisation the same bytes get their time again, so that the hash stays.
  if (const auto found = reopened_.find(batch.id); found != reopened_.end()) {
    since = std::max(since, found->second);
  }
  if (now() - since >= options_.stuck_after) return raise(batch, *live, *nonce);
  // Pools forget: the same bytes again do no harm.
  const Result<void> again = chain_.send(live->transaction.raw);
  if (!again && again.error().code == Errc::fee_too_low) {
    return raise(batch, *live, live->transaction.transaction.nonce);
  }
  if (!again && again.error().code != Errc::nonce_taken) return again.error();
  return Step{Did::waiting, batch.id, "for " + live->stored.tx_hash + " to be mined"};
}

Result<Step> Payer::confirm(const ledger::PaymentBatch& batch, const Sent& landed,
                            const evm::Receipt& receipt) {
  const auto head = chain_.head();
  if (!head) return head.error();
  const std::uint64_t depth = *head >= receipt.block_number ? *head - receipt.block_number + 1 : 0;
  if (depth < options_.confirmations) {
    return Step{
        Did::waiting, batch.id,
        std::to_string(depth) + " of " + std::to_string(options_.confirmations) + " confirmations"};
  }
  // Two questions, so that one wrong answer pays nobody on paper.
  const auto on_chain = chain_.batch(batch_key(batch.id));
  if (!on_chain) return on_chain.error();
  if (on_chain->settled_block == 0) {
    return Step{Did::waiting, batch.id, "its receipt and the escrow disagree"};
  }
  const auto call = decode_settlement(landed.transaction.transaction.data);
  if (!call) return Error{Errc::ledger_damaged, "batch " + batch.id + " sent another call"};
  const Result<void> charged = book_.set_charges(batch.id, user_charges(call->charges), call->fee);
  if (!charged) return charged.error();
  if (batch.status != ledger::BatchStatus::submitted) {
    const Result<void> marked = batches_.submit(batch.id, landed.stored.tx_hash);
    if (!marked) return marked.error();
  }
  const Result<void> done =
      batches_.confirm(batch.id, {landed.stored.tx_hash, receipt.block_number, receipt.gas_used,
                                  gwei_text(receipt.gas_price)});
  if (!done) return done.error();
  return Step{Did::confirmed, batch.id,
              batch.total.to_string() + " $FAR in " + landed.stored.tx_hash + ", " +
                  std::to_string(receipt.gas_used) + " gas"};
}

// Text that is no address, and addresses whose payment would stop the whole batch.
Result<std::optional<Step>> Payer::hold_unpayable(const ledger::PaymentBatch& batch) {
  std::optional<Step> step;
  for (const ledger::PaymentItem& item : batch.items) {
    const auto address = evm::parse_address(item.wallet);
    const bool bad = !address || !payable_address(*address, chain_.escrow());
    if (!bad) continue;
    if (batch.status == ledger::BatchStatus::submitted) {
      const Result<void> failed = batches_.fail(batch.id, "a recipient cannot be paid");
      if (!failed) return failed.error();
    }
    const Result<void> held =
        batches_.hold(batch.id, item.wallet, address ? "cannot receive" : "not an address");
    if (!held) return held.error();
    step = Step{Did::held, batch.id, item.wallet + " cannot be paid: its amount is held"};
  }
  return step;
}

Result<Step> Payer::send_new(const ledger::PaymentBatch& batch) {
  const auto fees = chain_.fees();
  if (!fees) return fees.error();
  if (too_dear(*fees)) {
    return Step{Did::waiting, batch.id,
                "for lower fees: " + gwei_text(fees->max_fee_per_gas) + " gwei now"};
  }
  auto settlement = plan(batch, *fees);
  if (!settlement) {
    const bool poor = settlement.error().code == Errc::insufficient_credit;
    return poor ? refuse(batch, settlement.error()) : settlement.error();
  }
  auto data = encode_settlement(*settlement, chain_.id(), chain_.escrow());
  if (!data) return data.error();
  const auto gas = chain_.estimate_gas(signer_.address(), *data);
  if (!gas) {
    return gas.error().code == Errc::call_reverted ? refuse(batch, gas.error()) : gas.error();
  }
  auto nonce = chain_.next_nonce(signer_.address());
  if (!nonce) return nonce.error();
  const auto taken =
      book_.highest_nonce(chain_.id(), evm::to_lower_case(signer_.address()), batch.id);
  if (!taken) return taken.error();
  evm::Transaction transaction;
  transaction.chain_id = chain_.id();
  transaction.nonce = *taken ? std::max(*nonce, **taken + 1) : *nonce;
  transaction.gas_limit = *gas + *gas / kGasMargin;
  transaction.max_fee_per_gas = fees->max_fee_per_gas;
  transaction.max_priority_fee_per_gas = fees->max_priority_fee_per_gas;
  transaction.to = chain_.escrow();
  transaction.data = *std::move(data);
  return sign_and_send(batch.id, std::move(transaction), settlement->to_operator,
                       std::to_string(settlement->payments.size()) + " payments, " +
                           std::string(name(settlement->method)));
}

// At its own nonce; but where a reorganisation took for ever what stood below, nothing above it
// would be mined. Whichever of the batch's transactions is mined first settles it, the others
// revert.
Result<Step> Payer::raise(const ledger::PaymentBatch& batch, const Sent& stuck,
                          std::uint64_t nonce) {
  const auto now_fees = chain_.fees();
  if (!now_fees) return now_fees.error();
  evm::Transaction transaction = stuck.transaction.transaction;
  const auto raised = evm::raise_fees(
      {transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas}, *now_fees);
  if (!raised || too_dear(*raised)) {
    const Result<void> again = chain_.send(stuck.transaction.raw);
    if (!again && again.error().code != Errc::fee_too_low &&
        again.error().code != Errc::nonce_taken) {
      return again.error();
    }
    return Step{Did::waiting, batch.id, "the next fee would pass the limit"};
  }
  transaction.nonce = nonce;
  transaction.max_fee_per_gas = raised->max_fee_per_gas;
  transaction.max_priority_fee_per_gas = raised->max_priority_fee_per_gas;
  return sign_and_send(batch.id, std::move(transaction), operator_of(stuck.stored),
                       "raised to " + gwei_text(raised->max_fee_per_gas) + " gwei");
}

Result<Step> Payer::sign_and_send(const std::string& batch_id, evm::Transaction transaction,
                                  const std::optional<Part>& to_operator, const std::string& why) {
  const auto made = evm::sign_transaction(transaction, signer_);
  if (!made) return made.error();
  const auto call = decode_settlement(transaction.data);
  if (!call) return call.error();
  const std::string hash = evm::to_hex0x(made->hash);
  // Written down first: whatever happens from here on, the next step knows what may be out there.
  ledger::StoredTransaction stored{hash,
                                   batch_id,
                                   transaction.chain_id,
                                   evm::to_lower_case(made->sender),
                                   transaction.nonce,
                                   made->raw,
                                   {},
                                   "",
                                   {}};
  if (to_operator) {
    stored.operator_wallet = evm::to_lower_case(to_operator->who);
    stored.operator_pay = to_operator->amount;
  }
  const Result<void> recorded =
      book_.record(*lease_, stored, user_charges(call->charges), call->fee);
  if (!recorded) return recorded.error();
  const Result<void> sent = chain_.send(made->raw);
  // It may be out all the same; the next step looks.
  if (!sent) log(LogLevel::warning, "payout", hash + ": " + sent.error().to_string());
  return Step{Did::sent, batch_id, hash + ": " + why};
}

Result<Step> Payer::refuse(const ledger::PaymentBatch& batch, const Error& error) {
  const auto on_chain = chain_.batch(batch_key(batch.id));
  if (!on_chain) return on_chain.error();
  if (on_chain->settled_block != 0) {
    return Step{Did::waiting, batch.id, "settled meanwhile"};
  }
  const Result<void> failed = batches_.fail(batch.id, error.detail.substr(0, 200));
  if (!failed) return failed.error();
  refused_[batch.id] = now();
  return Step{Did::failed, batch.id, error.detail};
}

}  // namespace farmesh::payout
