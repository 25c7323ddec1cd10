#include "payout/deposits.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/log.hpp"
#include "evm/wei.hpp"

namespace farmesh::payout {
namespace {

constexpr Far kEverything = Far::from_units(std::numeric_limits<std::int64_t>::max());

}  // namespace

std::string chain_name(std::uint64_t chain_id, const evm::Address& escrow) {
  return std::to_string(chain_id) + " " + evm::to_lower_case(escrow);
}

std::string reference_of(const Movement& movement) {
  const char* kind = movement.kind == Movement::Kind::request ? ":request " : ":";
  return evm::to_hex0x(movement.transaction_hash) + kind + std::to_string(movement.ordinal);
}

void follow_request(evm::U256& requested, ledger::MovementKind kind, const evm::U256& amount) {
  if (kind == ledger::MovementKind::request) requested = amount;
  if (kind == ledger::MovementKind::withdrawal) {
    requested = checked_subtract(requested, amount).value_or(evm::U256());
  }
}

Result<DepositStep> DepositWatcher::step() {
  const auto head = chain_.head();
  if (!head) return head.error();
  DepositStep step;
  if (*head + 1 < options_.confirmations) {
    step.up_to_date = true;
    return step;
  }
  const std::uint64_t safe = *head + 1 - std::max<std::uint64_t>(options_.confirmations, 1);
  bool rewound = false;
  const auto from = first_block(rewound);
  if (!from) return from.error();
  if (*from > safe) {
    step.at_block = safe;
    step.up_to_date = true;
    return step;
  }
  // After a rewind all of it at once: what is missing can only be told from the whole.
  const std::uint64_t to = rewound ? safe : std::min(safe, *from + options_.max_blocks - 1);
  const auto hash = chain_.block_hash(to);
  if (!hash) return hash.error();
  if (!*hash) return Error{Errc::chain_unavailable, "the newest blocks are not to be had"};
  const auto there = chain_.movements(*from, to);
  if (!there) return there.error();
  for (const Movement& movement : *there) {
    const Result<void> taken = take(movement, step);
    if (!taken) return taken.error();
  }
  if (rewound) {
    const Result<void> dropped = drop_missing(*from, *there, step);
    if (!dropped) return dropped.error();
  }
  // Last: after a crash before this the same blocks are read again.
  const Result<void> kept = book_.set_cursor(name(), {to, evm::to_hex0x(**hash)});
  if (!kept) return kept.error();
  step.at_block = to;
  step.up_to_date = to == safe;
  return step;
}

Result<std::uint64_t> DepositWatcher::first_block(bool& rewound) {
  const auto cursor = book_.cursor(name());
  if (!cursor) return cursor.error();
  if (!*cursor) return options_.start_block;
  const std::uint64_t block = (*cursor)->block_number;
  const auto hash = chain_.block_hash(block);
  if (!hash) return hash.error();
  // An endpoint that lags does not have it yet; another one's hash is another history.
  if (!*hash || evm::to_hex0x(**hash) == (*cursor)->block_hash) return block + 1;
  rewound = true;
  log(LogLevel::warning, "payout",
      "the chain was rewritten at block " + std::to_string(block) + ": reading again");
  return std::max(options_.start_block,
                  block >= options_.rewind ? block - options_.rewind : std::uint64_t{0});
}

Result<void> DepositWatcher::take(const Movement& movement, DepositStep& step) {
  const std::string reference = reference_of(movement);
  const auto before = book_.movement(reference);
  if (!before) return before.error();
  if (*before && !(*before)->dropped) return {};
  // One that was taken back and is there again moves money under a name of its own.
  const std::string entry =
      *before ? reference + "@" + std::to_string(movement.block_number) : reference;
  const std::string account = evm::to_lower_case(movement.user);
  Result<void> taken;
  if (movement.kind == Movement::Kind::request) {
    ++step.requests;
  } else {
    taken = take_money(movement, account, entry, step);
  }
  if (taken) {
    taken = book_.put({reference, name(), movement.kind, account, movement.amount.to_decimal(),
                       evm::to_hex0x(movement.transaction_hash), movement.block_number,
                       movement.position, false});
  }
  if (!taken || movement.kind == Movement::Kind::deposit) return taken;
  return count_leaving(account);
}

Result<void> DepositWatcher::take_money(const Movement& movement, const std::string& account,
                                        const std::string& entry, DepositStep& step) {
  const auto amount = evm::from_wei(movement.amount);
  if (!amount) return Error{Errc::amount_invalid, "a deposit beyond the largest amount"};
  if (movement.kind == Movement::Kind::deposit) {
    ++step.deposits;
    if (amount->amount.is_zero()) return {};
    const auto raised = credits_.deposit(account, amount->amount, entry);
    return raised ? Result<void>() : raised.error();
  }
  ++step.withdrawals;
  // Rounded up: what left the chain in parts of a unit is no credit either.
  const auto whole = amount->amount.plus(Far::from_units(amount->dust_wei > 0 ? 1 : 0));
  return whole ? lower(account, *whole, entry) : Error{Errc::amount_invalid, "too much"};
}

// From all that was seen of this user, so that a crash or a reorganisation in between does no harm.
Result<void> DepositWatcher::count_leaving(const std::string& account) {
  const auto seen = book_.movements_of(account);
  if (!seen) return seen.error();
  std::map<std::string, evm::U256> requested;  // by escrow
  for (const ledger::ChainMovement& movement : *seen) {
    const auto wei = evm::U256::parse_decimal(movement.amount_wei);
    if (!wei) return Error{Errc::ledger_damaged, "a movement without an amount"};
    follow_request(requested[movement.chain], movement.kind, *wei);
  }
  Far sum;
  for (const auto& [chain, wei] : requested) {
    // Any number may be asked for; more than a ledger holds is all that there is.
    const auto amount = evm::from_wei(wei);
    const auto more =
        amount ? amount->amount.plus(Far::from_units(amount->dust_wei > 0 ? 1 : 0)) : std::nullopt;
    sum = more ? sum.plus(*more).value_or(kEverything) : kEverything;
  }
  return credits_.set_leaving(account, sum);
}

// Takes what is there; a user who has spent it meanwhile keeps nothing.
Result<void> DepositWatcher::lower(const std::string& account, Far amount,
                                   const std::string& reference) {
  for (;;) {
    const auto lowered = credits_.withdraw(account, amount, reference);
    if (lowered) return {};
    // Written in full or in part before this process died.
    if (lowered.error().code == Errc::ledger_conflict) return {};
    if (lowered.error().code != Errc::insufficient_credit) return lowered.error();
    const auto row = credits_.account(account);
    if (!row) return row.error();
    log(LogLevel::warning, "payout",
        account + " took " + amount.to_string() + " $FAR and has " + row->unreserved().to_string());
    if (row->unreserved() >= amount) continue;  // somebody else's reservation has ended
    amount = row->unreserved();
    if (amount.is_zero()) return {};
  }
}

Result<void> DepositWatcher::drop_missing(std::uint64_t from, const std::vector<Movement>& there,
                                          DepositStep& step) {
  std::set<std::string> present;
  for (const Movement& movement : there) present.insert(reference_of(movement));
  const auto known = book_.movements(name(), from);
  if (!known) return known.error();
  for (const ledger::ChainMovement& movement : *known) {
    if (present.contains(movement.reference)) continue;
    const bool moved = movement.kind != Movement::Kind::request;
    const auto wei = evm::U256::parse_decimal(moved ? movement.amount_wei : "0");
    const auto amount = wei ? evm::from_wei(*wei) : wei.error();
    if (!amount) return Error{Errc::ledger_damaged, "a movement without an amount"};
    const std::string entry =
        "dropped " + movement.reference + "@" + std::to_string(movement.block_number);
    Result<void> undone;
    if (movement.kind == Movement::Kind::deposit) {
      undone = lower(movement.account, amount->amount, entry);
    } else if (movement.kind == Movement::Kind::withdrawal) {
      const auto raised = credits_.deposit(movement.account, amount->amount, entry);
      if (!raised) undone = raised.error();
    }
    if (undone) undone = book_.drop(movement.reference);
    if (undone) undone = count_leaving(movement.account);
    if (!undone) return undone;
    ++step.dropped;
  }
  return {};
}

}  // namespace farmesh::payout
