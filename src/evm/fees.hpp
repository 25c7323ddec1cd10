// What to offer for a transaction's gas: estimates from recent blocks, and raised offers for one
// that is stuck. Pure functions.
#pragma once

#include <optional>
#include <vector>

#include "evm/u256.hpp"

namespace farmesh::evm {

struct Fees {
  U256 max_fee_per_gas;           // wei
  U256 max_priority_fee_per_gas;  // wei
  friend bool operator==(const Fees&, const Fees&) = default;
};

struct FeeHistory {
  U256 next_base_fee;         // wei per gas, of the block that comes next
  std::vector<U256> rewards;  // the asked percentile of the priority fees of each past block
};

/// The median reward, but at least `floor`, on top of twice the base fee, so that the offer holds
/// through six full blocks. Nothing when it would exceed 256 bits.
std::optional<Fees> estimate_fees(FeeHistory history, const U256& floor);

/// An offer that replaces `stuck` in the pools: an eighth more in both parts, where they ask for a
/// tenth, or `now` where that is more.
std::optional<Fees> raise_fees(const Fees& stuck, const Fees& now);

}  // namespace farmesh::evm
