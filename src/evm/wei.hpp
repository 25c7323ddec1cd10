// Amounts between the ledger's base units (1e-8 $FAR) and the chain's (1e-18 $FAR, "wei").
#pragma once

#include <farmesh/money.hpp>
#include <farmesh/result.hpp>

#include "evm/u256.hpp"

namespace farmesh::evm {

inline constexpr std::uint64_t kWeiPerUnit = 10'000'000'000;  // 1e18 / 1e8

/// Exact. `amount` is not negative.
U256 to_wei(Far amount);

struct FarOfWei {
  Far amount;                  // rounded down
  std::uint64_t dust_wei = 0;  // what is left: below kWeiPerUnit
};

/// Fails with invalid_argument above what Far holds.
Result<FarOfWei> from_wei(const U256& wei);

}  // namespace farmesh::evm
