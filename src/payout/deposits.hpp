// Deposits that are deep enough in the chain, as credit of their users; and what users ask back
// from the escrow, which is no credit from then on.
//
// Takes the escrow's events, gives entries of Credits. An event is named by its transaction and its
// place in it, which survive a reorganisation, and moves money once, however often it is read. If
// a reorganisation goes deeper than the confirmations, the blocks before are read again, and what
// is no more there is taken back. Confined to one thread; two watchers of one ledger do no harm.
#pragma once

#include <memory>
#include <string>

#include "ledger/chain_book.hpp"
#include "ledger/credits.hpp"
#include "payout/chain.hpp"

namespace farmesh::payout {

struct DepositOptions {
  std::uint64_t confirmations = 15;
  std::uint64_t start_block = 0;     // the escrow's own; nothing happened before
  std::uint64_t max_blocks = 5'000;  // in one step
  std::uint64_t rewind = 1'000;      // read again after a deep reorganisation
};

struct DepositStep {
  std::size_t deposits = 0;     // new ones
  std::size_t withdrawals = 0;  // new ones
  std::size_t requests = 0;     // new wishes to withdraw
  std::size_t dropped = 0;      // taken back
  std::uint64_t at_block = 0;   // read up to here
  bool up_to_date = false;
};

/// The name of an escrow on its chain, for cursors and movements.
std::string chain_name(std::uint64_t chain_id, const evm::Address& escrow);

class DepositWatcher {
 public:
  DepositWatcher(std::shared_ptr<ledger::Store> store, Chain& chain, DepositOptions options)
      : chain_(chain), options_(options), book_(store), credits_(std::move(store)) {}

  /// Reads the next blocks. Fails as chain and ledger do; nothing is lost then.
  Result<DepositStep> step();

 private:
  Result<std::uint64_t> first_block(bool& rewound);
  Result<void> take(const Movement& movement, DepositStep& step);
  Result<void> drop_missing(std::uint64_t from, const std::vector<Movement>& there,
                            DepositStep& step);
  Result<void> take_money(const Movement& movement, const std::string& account,
                          const std::string& entry, DepositStep& step);
  Result<void> count_leaving(const std::string& account);
  Result<void> lower(const std::string& account, Far amount, const std::string& reference);
  std::string name() const { return chain_name(chain_.id(), chain_.escrow()); }

  Chain& chain_;
  DepositOptions options_;
  ledger::ChainBook book_;
  ledger::Credits credits_;
};

/// "TRANSACTION:PLACE", what a movement is known by.
std::string reference_of(const Movement& movement);

/// What a user wants to withdraw after one more of his movements; unchanged by deposits.
void follow_request(evm::U256& requested, ledger::MovementKind kind, const evm::U256& amount);

}  // namespace farmesh::payout
