#include "payout/deposits.hpp"

#include <algorithm>
#include <set>

#include "base/log.hpp"
#include "evm/wei.hpp"

namespace farmesh::payout {

std::string chain_name(std::uint64_t chain_id, const evm::Address& escrow) {
  return std::to_string(chain_id) + " " + evm::to_lower_case(escrow);
}

std::string reference_of(const Movement& movement) {
  return evm::to_hex0x(movement.transaction_hash) + ":" + std::to_string(movement.ordinal);
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
  const auto amount = evm::from_wei(movement.amount);
  if (!amount) return Error{Errc::amount_invalid, "a deposit beyond the largest amount"};
  const bool deposit = movement.kind == Movement::Kind::deposit;
  Result<void> moved;
  if (deposit) {
    if (!amount->amount.is_zero()) {
      const auto raised = credits_.deposit(account, amount->amount, entry);
      if (!raised) moved = raised.error();
    }
  } else {
    // Rounded up: what left the chain in parts of a unit is no credit either.
    const auto whole = amount->amount.plus(Far::from_units(amount->dust_wei > 0 ? 1 : 0));
    moved = whole ? lower(account, *whole, entry) : Error{Errc::amount_invalid, "too much"};
  }
  if (!moved) return moved;
  ++(deposit ? step.deposits : step.withdrawals);
  return book_.put({reference, name(), deposit, account, movement.amount.to_decimal(),
                    evm::to_hex0x(movement.transaction_hash), movement.block_number, false});
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
        account + " took " + amount.to_string() + " $FAR and has " + row->available().to_string());
    if (row->available() >= amount) continue;  // somebody else's reservation has ended
    amount = row->available();
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
    const auto wei = evm::U256::parse_decimal(movement.amount_wei);
    const auto amount = wei ? evm::from_wei(*wei) : wei.error();
    if (!amount) return Error{Errc::ledger_damaged, "a movement without an amount"};
    const std::string entry =
        "dropped " + movement.reference + "@" + std::to_string(movement.block_number);
    Result<void> undone;
    if (movement.deposit) {
      undone = lower(movement.account, amount->amount, entry);
    } else if (const auto raised = credits_.deposit(movement.account, amount->amount, entry);
               !raised) {
      undone = raised.error();
    }
    if (undone) undone = book_.drop(movement.reference);
    if (!undone) return undone;
    ++step.dropped;
  }
  return {};
}

}  // namespace farmesh::payout
