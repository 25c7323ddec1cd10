// What the payer's next batch takes, whom it charges, and how it is settled.
#include <algorithm>
#include <utility>

#include "evm/wei.hpp"
#include "payout/payer.hpp"
#include "payout/reservation.hpp"

namespace farmesh::payout {
namespace {

// A batch may wait for lower fees for a while: what ends sooner is not charged any more.
constexpr std::chrono::minutes kBeforeDeadline{10};
// What is fixed ends after two weeks: where no batch came until this long before, one is made for
// it.
constexpr std::chrono::hours kLastCall{48};

}  // namespace

Result<ledger::ClaimOptions> Payer::claim_options() {
  ledger::ClaimOptions wanted;
  wanted.minimum = options_.minimum;
  wanted.payable_before = now() - options_.hold;
  wanted.max_wallets = options_.max_wallets;
  if (options_.dust_after.count() > 0) wanted.dust_before = now() - options_.dust_after;
  if (options_.daily_limit) {
    const auto made = batches_.claimed_since(now() - std::chrono::hours(24));
    if (!made) return made.error();
    const std::optional<Far> left = options_.daily_limit->minus(*made);
    wanted.max_total = left && *left > Far() ? *left : Far();
  }
  return wanted;
}

Method Payer::choose(std::size_t payments, std::size_t charges, const evm::Fees& fees) const {
  const std::uint64_t gas = expected_gas(Method::direct, payments, charges);
  if (gas > options_.max_gas) return Method::merkle;
  if (!options_.max_cost) return Method::direct;
  const auto cost = checked_multiply(fees.max_fee_per_gas, gas);
  return cost && *cost <= *options_.max_cost ? Method::direct : Method::merkle;
}

bool Payer::too_dear(const evm::Fees& fees) const {
  return options_.max_fee_per_gas && fees.max_fee_per_gas > *options_.max_fee_per_gas;
}

// The platform's fees that are due, as far as the contract lets a batch of this size take them.
Result<Far> Payer::fee_wanted(Far paid, const std::string& batch_id) {
  if (!options_.take_fee) return Far();
  const auto due = book_.fees_due(batch_id);
  if (!due) return due.error();
  if (due->is_zero()) return Far();
  const auto bps = chain_.max_fee_bps();
  if (!bps) return bps.error();
  if (*bps >= 10'000) return Far();  // nothing the contract would ever say
  // fee <= charged * bps / 10000, and charged = paid + fee.
  const auto most = Far::from_units(paid.units() / 10'000 * static_cast<std::int64_t>(*bps));
  return std::min(*due, most);
}

// What users have signed for is charged whole, and charging closes it; gives the sum.
Result<Far> Payer::charge_reservations(Settlement& settlement) {
  const auto all = reservations_.to_charge(settlement.batch_id);
  if (!all) return all.error();
  Far sum;
  for (const ledger::EscrowReservation& one : *all) {
    if (settlement.charges.size() >= options_.max_charges) break;
    const auto user = evm::parse_address(one.account);
    if (!user) continue;
    const evm::Bytes32 key = request_key(one.request_id);
    const auto hold = chain_.hold(*user, key);
    if (!hold) return hold.error();
    const bool there =
        hold->state == EscrowHold::State::open || hold->state == EscrowHold::State::authorized;
    const LedgerTime until{std::chrono::seconds(static_cast<std::int64_t>(hold->deadline))};
    if (!there || now() + kBeforeDeadline >= until || hold->amount < evm::to_wei(one.cost))
      continue;
    const std::optional<Far> more = sum.plus(one.cost);
    if (!more) return Error{Errc::amount_invalid, "reservations beyond the largest amount"};
    sum = *more;
    settlement.charges.push_back({*user, one.cost, key});
  }
  return sum;
}

Result<bool> Payer::reservations_end() {
  const auto end = reservations_.first_end(now() + kBeforeDeadline);
  if (!end) return end.error();
  if (!*end || now() + kLastCall < **end) return false;
  Settlement probe;
  probe.batch_id = "00000000-0000-0000-0000-000000000000";
  const auto sum = charge_reservations(probe);
  return sum ? Result<bool>(!sum->is_zero()) : sum.error();
}

// Users who owe most pay first, up to what the escrow would let us take; gives what nobody covers.
Result<Far> Payer::charge_users(Settlement& settlement, Far wanted) {
  const auto debts = book_.debts(settlement.batch_id);
  if (!debts) return debts.error();
  for (const ledger::UserCharge& debt : *debts) {
    if (wanted.is_zero() || settlement.charges.size() >= options_.max_charges) break;
    const auto user = evm::parse_address(debt.account);
    if (!user || *user == *options_.backing) continue;
    const auto account = chain_.account(*user);
    if (!account) return account.error();
    const auto chargeable = evm::from_wei(account->chargeable);
    const Far most = chargeable ? chargeable->amount : debt.amount;
    const Far charge = std::min({wanted, debt.amount, most});
    if (charge.is_zero()) continue;
    settlement.charges.push_back({*user, charge, {}});
    wanted = *wanted.minus(charge);
  }
  return wanted;
}

// The rest is ours: from an account of the escrow that has to hold it.
Result<void> Payer::charge_backing(Settlement& settlement, Far left) {
  if (left.is_zero()) return {};
  const evm::Address& backing = *options_.backing;
  const auto account = chain_.account(backing);
  if (!account) return account.error();
  const auto there = evm::from_wei(account->chargeable);
  if (there && there->amount < left) {
    return Error{Errc::insufficient_credit, "the backing account " + evm::to_string(backing) +
                                                " has " + there->amount.to_string() +
                                                " $FAR in the escrow, and " + left.to_string() +
                                                " is wanted"};
  }
  settlement.charges.push_back({backing, left, {}});
  return {};
}

Result<void> Payer::plan_charges(Settlement& settlement) {
  Far paid;
  for (const Part& payment : settlement.payments) {
    const std::optional<Far> more = paid.plus(payment.amount);
    if (!more) return Error{Errc::amount_invalid, "a batch beyond the largest amount"};
    paid = *more;
  }
  const auto fee = fee_wanted(paid, settlement.batch_id);
  if (!fee) return fee.error();
  const auto due = book_.operator_due(settlement.batch_id);
  if (!due) return due.error();
  std::optional<Far> wanted = paid.plus(*fee);
  if (wanted) wanted = wanted->plus(*due);
  if (!wanted) return Error{Errc::amount_invalid, "a batch beyond the largest amount"};
  const auto reserved = charge_reservations(settlement);
  if (!reserved) return reserved.error();
  // Reservations end, so they are charged before the nodes they pay for are due: until then the
  // operator has it, and pays those nodes from the backing account.
  const Far ahead = *reserved > *wanted ? *reserved->minus(*wanted) : Far();
  const auto left = charge_users(settlement, ahead.is_zero() ? *wanted->minus(*reserved) : Far());
  if (!left) return left.error();
  // What nobody covers the operator goes without; and the platform does not pay its own fee.
  const Far unmet = std::min(*left, *due);
  const Far waived = std::min(*left->minus(unmet), *fee);
  settlement.fee = *fee->minus(waived);
  const Far to_operator = *due->minus(unmet)->plus(ahead);
  if (!to_operator.is_zero()) {
    const Result<void> added = add_operator(settlement, {*options_.operator_wallet, to_operator});
    if (!added) return added;
  }
  const Result<void> charged = charge_backing(settlement, *left->minus(unmet)->minus(waived));
  std::ranges::sort(settlement.charges, {},
                    [](const Charge& charge) { return std::pair(charge.who, charge.request); });
  return charged;
}

Result<Settlement> Payer::plan(const ledger::PaymentBatch& batch, const evm::Fees& fees) {
  auto payments = payments_of(batch);
  if (!payments) return payments;
  Settlement settlement = *std::move(payments);
  const Result<void> charged = plan_charges(settlement);
  if (!charged) return charged.error();
  settlement.method = choose(settlement.payments.size(), settlement.charges.size(), fees);
  return settlement;
}

Result<Payer::Preview> Payer::preview() {
  const auto wanted = claim_options();
  if (!wanted) return wanted.error();
  auto payable = batches_.payable(*wanted);
  if (!payable) return payable.error();
  Preview preview;
  preview.payable = *std::move(payable);
  for (const ledger::Payable& one : preview.payable) {
    const std::optional<Far> sum = preview.total.plus(one.amount);
    if (!sum) return Error{Errc::amount_invalid, "a batch beyond the largest amount"};
    preview.total = *sum;
  }
  const auto fees = chain_.fees();
  if (!fees) return fees.error();
  preview.fees = *fees;
  preview.method = choose(preview.payable.size(), 1, *fees);
  preview.expected_gas = expected_gas(preview.method, preview.payable.size(), 1);
  return preview;
}

}  // namespace farmesh::payout
