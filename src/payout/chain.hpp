// The chain as payout needs it: the escrow, one sender, and what was seen there.
//
// Takes signed transactions, gives receipts and state. Narrow on purpose: tests put a chain in
// memory behind it that reorganises, forgets, lies and dies; escrow_chain.hpp is the real one.
// Blocking; one caller at a time. Every call fails as evm::Rpc does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "evm/fees.hpp"
#include "evm/rpc.hpp"
#include "ledger/chain_book.hpp"

namespace farmesh::payout {

/// What the escrow knows of a batch.
struct EscrowBatch {
  std::uint64_t settled_block = 0;  // 0: this batch's id is still free
  evm::Bytes32 root{};              // zero: paid directly
};

struct EscrowAccount {
  evm::U256 balance;     // wei of the token
  evm::U256 chargeable;  // without what its user may withdraw now
  evm::U256 requested;   // what its user wants to withdraw
};

/// What the escrow keeps for one request of one user.
struct EscrowHold {
  enum class State : std::uint8_t { none, open, authorized, closed };
  State state = State::none;
  evm::U256 amount;            // wei of the token
  std::uint64_t deadline = 0;  // Unix time, seconds
};

/// Money that came into a user's account of the escrow, or left it for the user; or the user's wish
/// to withdraw, which replaces the one before.
struct Movement {
  using Kind = ledger::MovementKind;
  Kind kind = Kind::deposit;
  evm::Address user;
  evm::U256 amount;  // wei of the token
  std::uint64_t block_number = 0;
  std::uint64_t position = 0;  // in the block
  evm::Bytes32 transaction_hash{};
  // Among this transaction's movements of money, or its wishes: the same after a reorganisation.
  std::uint64_t ordinal = 0;
};

class Chain {
 public:
  virtual ~Chain() = default;
  virtual std::uint64_t id() const = 0;
  virtual evm::Address escrow() const = 0;

  virtual Result<std::uint64_t> head() = 0;
  /// Nothing where there is no such block.
  virtual Result<std::optional<evm::Bytes32>> block_hash(std::uint64_t number) = 0;
  /// What the sender's next transaction must carry, those in the pool not counted.
  virtual Result<std::uint64_t> next_nonce(const evm::Address& sender) = 0;
  virtual Result<evm::Fees> fees() = 0;
  /// Of a call to the escrow. Fails with call_reverted too.
  virtual Result<std::uint64_t> estimate_gas(const evm::Address& from, const evm::Bytes& data) = 0;
  virtual Result<void> send(const evm::Bytes& raw) = 0;
  virtual Result<std::optional<evm::Receipt>> receipt(const evm::Bytes32& hash) = 0;

  virtual Result<EscrowBatch> batch(const evm::Bytes32& key) = 0;
  virtual Result<EscrowAccount> account(const evm::Address& user) = 0;
  virtual Result<EscrowHold> hold(const evm::Address& user, const evm::Bytes32& request) = 0;
  /// Whether the escrow takes anything from this settler now: it is not paused, and the role is
  /// his.
  virtual Result<bool> takes_from(const evm::Address& settler) = 0;
  /// The largest share of a batch that its fee may be, in 1/10,000.
  virtual Result<std::uint64_t> max_fee_bps() = 0;
  /// In the chain's order; both ends included.
  virtual Result<std::vector<Movement>> movements(std::uint64_t from, std::uint64_t to) = 0;
};

}  // namespace farmesh::payout
