#include "payout/errands.hpp"

#include <utility>

#include "base/log.hpp"
#include "evm/wei.hpp"
#include "payout/reservation.hpp"

namespace farmesh::payout {
namespace {

using State = EscrowHold::State;
using ledger::ReservationStatus;

constexpr std::size_t kAtOnce = 50;
constexpr std::uint64_t kGasMargin = 5;  // a fifth more
// A transaction takes a while: less than this before its deadline nothing is opened or fixed.
constexpr std::chrono::minutes kSoon{1};

LedgerTime time_of(std::uint64_t unix_seconds) {
  return LedgerTime(std::chrono::seconds(static_cast<std::int64_t>(unix_seconds)));
}

}  // namespace

Errands::Errands(std::shared_ptr<ledger::Store> store, Chain& chain, evm::Signer& signer,
                 ErrandOptions options)
    : store_(std::move(store)),
      chain_(chain),
      signer_(signer),
      options_(std::move(options)),
      reservations_(store_),
      book_(store_) {}

Result<std::optional<std::string>> Errands::step(const ledger::Lease& lease, bool alone,
                                                 bool their_turn) {
  const auto under_way = book_.errand(lease);
  if (!under_way) return under_way.error();
  if (*under_way) {
    auto waits = look_after(lease, **under_way, alone);
    if (!waits || *waits) return waits;
  }
  if (!alone || !their_turn) return std::optional<std::string>();
  const auto work = find_work();
  if (!work) return work.error();
  auto begun = begin(lease, *work);
  if (!begun || *begun || !work->waits) return begun;
  return std::optional<std::string>("reservations wait for confirmations");
}

// Sends it again until its nonce is used: by it or by another, the chain tells what became of it.
Result<std::optional<std::string>> Errands::look_after(const ledger::Lease& lease,
                                                       const ledger::StoredErrand& errand,
                                                       bool alone) {
  const auto nonce = chain_.next_nonce(signer_.address());
  if (!nonce) return nonce.error();
  if (*nonce > errand.nonce) {
    const Result<void> ended = book_.end_errand(lease, errand.tx_hash);
    if (!ended) return ended.error();
    return std::optional<std::string>();
  }
  const auto stored = evm::decode_transaction(errand.raw);
  if (!stored || evm::to_hex0x(stored->hash) != errand.tx_hash) {
    return Error{Errc::ledger_damaged, "transaction " + errand.tx_hash + " is not what it was"};
  }
  const bool stuck = now() - errand.created_at >= options_.stuck_after;
  const Result<void> again = stuck ? Result<void>() : chain_.send(errand.raw);
  const bool too_cheap = !again && again.error().code == Errc::fee_too_low;
  if (!again && !too_cheap && again.error().code != Errc::nonce_taken) return again.error();
  if (stuck || too_cheap) {
    const auto fees = chain_.fees();
    if (!fees) return fees.error();
    evm::Transaction transaction = stored->transaction;
    // What stood at a lower nonce is gone for ever: above it nothing would be mined.
    if (stuck && alone) transaction.nonce = *nonce;
    const auto raised =
        evm::raise_fees({transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas}, *fees);
    const bool too_dear = !raised || (options_.max_fee_per_gas &&
                                      raised->max_fee_per_gas > *options_.max_fee_per_gas);
    if (!too_dear) {
      transaction.max_fee_per_gas = raised->max_fee_per_gas;
      transaction.max_priority_fee_per_gas = raised->max_priority_fee_per_gas;
      const Result<void> sent = sign_and_send(lease, transaction, errand.what);
      if (!sent) return sent.error();
    }
  }
  return std::optional<std::string>(errand.what);
}

Result<Errands::Work> Errands::find_work() {
  const auto all = reservations_.to_do(now(), kAtOnce);
  if (!all) return all.error();
  Work work;
  for (const Reservation& reservation : *all) {
    if (rests(reservation.request_id)) continue;
    const Result<void> sorted = sort(reservation, work);
    if (!sorted) return sorted.error();
  }
  return work;
}

Result<void> Errands::sort(const Reservation& reservation, Work& work) {
  const auto user = evm::parse_address(reservation.account);
  if (!user) return reservations_.refused(reservation.request_id, "its account is no address");
  const auto hold = chain_.hold(*user, request_key(reservation.request_id));
  if (!hold) return hold.error();
  if (reservation.status == ReservationStatus::signed_for) {
    return sort_signed(reservation, *hold, work);
  }
  if (reservation.status == ReservationStatus::served) {
    return sort_served(reservation, *hold, work);
  }
  // Past its deadline, and never used or never charged.
  if (hold->state == State::open || hold->state == State::authorized) {
    if (now() >= time_of(hold->deadline)) work.reclaim.push_back(reservation);
    return {};
  }
  const auto charged = reservations_.is_in_batch(reservation.request_key);
  if (!charged) return charged.error();
  return *charged ? Result<void>() : reservations_.returned(reservation.request_id, "expired");
}

Result<void> Errands::sort_signed(const Reservation& reservation, const EscrowHold& hold,
                                  Work& work) {
  const std::string& id = reservation.request_id;
  if (hold.state == State::none) {
    if (reservation.seen_block) {  // a reorganisation took it
      const Result<void> gone = reservations_.saw(id, std::nullopt);
      if (!gone) return gone;
    }
    if (now() + kSoon >= reservation.deadline) {
      return reservations_.refused(id, "its deadline passed before it was opened");
    }
    work.open.push_back(reservation);
    return {};
  }
  if (hold.state != State::open || hold.amount != evm::to_wei(reservation.amount)) {
    return reservations_.refused(id, "its user has revoked it");
  }
  const auto deep = is_deep(reservation, work);
  if (!deep) return deep.error();
  return *deep ? reservations_.opened(id) : Result<void>();
}

Result<void> Errands::sort_served(const Reservation& reservation, const EscrowHold& hold,
                                  Work& work) {
  const std::string& id = reservation.request_id;
  if (hold.state == State::closed || hold.state == State::none) {
    const auto charged = reservations_.is_in_batch(reservation.request_key);
    if (!charged) return charged.error();
    if (*charged) return {};
    if (hold.state == State::none && now() + kSoon < reservation.deadline) {
      work.open.push_back(reservation);  // once more: a reorganisation took it
      return {};
    }
    return reservations_.returned(id, reservation.cost.is_zero() ? "nothing to pay" : "too late");
  }
  if (now() >= time_of(hold.deadline)) {
    work.reclaim.push_back(reservation);
    return {};
  }
  if (reservation.cost.is_zero()) {
    work.refund.push_back(reservation);
    return {};
  }
  if (hold.state == State::open) {
    work.authorize.push_back(reservation);
    return {};
  }
  const auto deep = is_deep(reservation, work);
  if (!deep) return deep.error();
  return *deep ? reservations_.authorized(id, time_of(hold.deadline)) : Result<void>();
}

Result<bool> Errands::is_deep(const Reservation& reservation, Work& work) {
  const auto head = chain_.head();
  if (!head) return head.error();
  if (!reservation.seen_block) {
    const Result<void> seen = reservations_.saw(reservation.request_id, *head);
    if (!seen) return seen.error();
  }
  const std::uint64_t since = reservation.seen_block.value_or(*head);
  const bool deep = *head + 1 >= since + options_.confirmations;
  work.waits = work.waits || !deep;
  return deep;
}

// Opening first: somebody waits for it.
Result<std::optional<std::string>> Errands::begin(const ledger::Lease& lease, const Work& work) {
  for (const auto& [chosen, encode_all, verb] :
       {std::tuple(&work.authorize, &encode_authorize, "fix"),
        std::tuple(&work.refund, &encode_refund, "return")}) {
    if (chosen->empty() || !work.open.empty()) continue;
    // One that is refused holds the others up only once.
    for (const bool together : {true, false}) {
      if (together && chosen->size() == 1) continue;
      const std::vector<Reservation> some(chosen->begin(),
                                          together ? chosen->end() : chosen->begin() + 1);
      const auto data = encode_all(some);
      if (!data) return data.error();
      std::string refusal;
      auto sent =
          send(lease, *data,
               std::string(verb) + " " + std::to_string(some.size()) + " reservations", refusal);
      if (!sent || *sent) return sent;
      if (!together) refused_[some[0].request_id] = now();
    }
  }
  for (const auto& [chosen, encode_one, verb] :
       {std::tuple(&work.open, &encode_open, "open"),
        std::tuple(&work.reclaim, &encode_reclaim, "reclaim")}) {
    for (const Reservation& one : *chosen) {
      const auto data = encode_one(one);
      if (!data) return data.error();
      std::string refusal;
      auto sent =
          send(lease, *data, std::string(verb) + " reservation " + one.request_key, refusal);
      if (!sent || *sent) return sent;
      const auto stands = has_come_to_stand(one);
      if (!stands) return stands.error();
      if (*stands) return std::optional<std::string>("to see reservation " + one.request_key);
      refused_[one.request_id] = now();
      if (one.status != ReservationStatus::signed_for) continue;
      // A pause ends, and a role may be granted: until its deadline it is tried again.
      const auto takes = chain_.takes_from(signer_.address());
      if (!takes) return takes.error();
      if (!*takes) continue;
      const Result<void> refused = reservations_.refused(one.request_id, refusal);
      if (!refused) return refused.error();
    }
  }
  return std::optional<std::string>();
}

// What an endpoint tells may be a block older than the state it tries a transaction on: an opening
// that was mined in between is refused because it stands there already.
Result<bool> Errands::has_come_to_stand(const Reservation& reservation) {
  if (reservation.status != ReservationStatus::signed_for) return false;
  const auto user = evm::parse_address(reservation.account);
  if (!user) return user.error();
  const auto hold = chain_.hold(*user, request_key(reservation.request_id));
  return hold ? Result<bool>(hold->state != State::none) : hold.error();
}

Result<std::optional<std::string>> Errands::send(const ledger::Lease& lease, const evm::Bytes& data,
                                                 const std::string& what, std::string& refusal) {
  const auto fees = chain_.fees();
  if (!fees) return fees.error();
  if (options_.max_fee_per_gas && fees->max_fee_per_gas > *options_.max_fee_per_gas) {
    return std::optional<std::string>("for lower fees: " + what);
  }
  const auto gas = chain_.estimate_gas(signer_.address(), data);
  if (!gas) {
    if (gas.error().code != Errc::call_reverted) return gas.error();
    refusal = gas.error().detail;
    log(LogLevel::warning, "payout", "the escrow refuses to " + what + ": " + refusal);
    return std::optional<std::string>();
  }
  const auto nonce = chain_.next_nonce(signer_.address());
  if (!nonce) return nonce.error();
  evm::Transaction transaction;
  transaction.chain_id = chain_.id();
  transaction.nonce = *nonce;
  transaction.gas_limit = *gas + *gas / kGasMargin;
  transaction.max_fee_per_gas = fees->max_fee_per_gas;
  transaction.max_priority_fee_per_gas = fees->max_priority_fee_per_gas;
  transaction.to = chain_.escrow();
  transaction.data = data;
  const Result<void> sent = sign_and_send(lease, transaction, what);
  return sent ? Result<std::optional<std::string>>(what) : sent.error();
}

// Written down first, as a batch's is.
Result<void> Errands::sign_and_send(const ledger::Lease& lease, const evm::Transaction& transaction,
                                    const std::string& what) {
  const auto made = evm::sign_transaction(transaction, signer_);
  if (!made) return made.error();
  const std::string hash = evm::to_hex0x(made->hash);
  const Result<void> noted =
      book_.set_errand(lease, {what, hash, transaction.nonce, made->raw, LedgerTime()});
  if (!noted) return noted;
  const Result<void> sent = chain_.send(made->raw);
  if (!sent) log(LogLevel::warning, "payout", hash + ": " + sent.error().to_string());
  return {};
}

bool Errands::rests(const std::string& request_id) const {
  const auto found = refused_.find(request_id);
  return found != refused_.end() && now() >= found->second &&
         now() < found->second + options_.retry_after;
}

}  // namespace farmesh::payout
