// What was seen on a chain: deposits into the escrow, wishes to withdraw and withdrawals from it,
// and how far it was read. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/store.hpp"

namespace farmesh::ledger {

/// How far a chain was read: a block, and its hash to know it by.
struct ChainCursor {
  std::uint64_t block_number = 0;
  std::string block_hash;
};

enum class MovementKind : std::uint8_t {
  deposit,
  withdrawal,
  request,  // moves nothing: what its user wants to withdraw from now on
};

struct ChainMovement {
  std::string reference;  // the transaction and the movement's place in it
  std::string chain;
  MovementKind kind = MovementKind::deposit;
  std::string account;
  std::string amount_wei;  // decimal digits
  std::string tx_hash;
  std::uint64_t block_number = 0;
  std::uint64_t position = 0;  // in the block
  bool dropped = false;        // the chain has forgotten it
};

class ChainBook {
 public:
  explicit ChainBook(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  Result<std::optional<ChainCursor>> cursor(const std::string& chain);
  Result<void> set_cursor(const std::string& chain, const ChainCursor& cursor);

  Result<std::optional<ChainMovement>> movement(const std::string& reference);
  /// Writes it, or that it is there again, perhaps in another block.
  Result<void> put(const ChainMovement& movement);
  Result<void> drop(const std::string& reference);
  /// From a block on, in the chain's order; without those that were dropped.
  Result<std::vector<ChainMovement>> movements(const std::string& chain, std::uint64_t from_block);
  /// One account's, on every chain, in each chain's order; without those that were dropped.
  Result<std::vector<ChainMovement>> movements_of(const std::string& account);

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace farmesh::ledger
