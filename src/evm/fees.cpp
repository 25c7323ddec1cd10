#include "evm/fees.hpp"

#include <algorithm>

namespace farmesh::evm {
namespace {

// At least one more: an eighth of less than 8 wei rounds to nothing.
std::optional<U256> eighth_more(const U256& value) {
  const std::optional<U256> more = checked_add(divide(value, 8).quotient, 1);
  return more ? checked_add(value, *more) : std::nullopt;
}

}  // namespace

std::optional<Fees> estimate_fees(FeeHistory history, const U256& floor) {
  U256 reward = floor;
  if (!history.rewards.empty()) {
    const auto middle = history.rewards.begin() + static_cast<long>(history.rewards.size() / 2);
    std::ranges::nth_element(history.rewards, middle);
    reward = std::max(reward, *middle);
  }
  const std::optional<U256> doubled = checked_multiply(history.next_base_fee, 2);
  const std::optional<U256> most = doubled ? checked_add(*doubled, reward) : std::nullopt;
  if (!most) return std::nullopt;
  return Fees{*most, reward};
}

std::optional<Fees> raise_fees(const Fees& stuck, const Fees& now) {
  const std::optional<U256> most = eighth_more(stuck.max_fee_per_gas);
  const std::optional<U256> priority = eighth_more(stuck.max_priority_fee_per_gas);
  if (!most || !priority) return std::nullopt;
  Fees raised{std::max(*most, now.max_fee_per_gas),
              std::max(*priority, now.max_priority_fee_per_gas)};
  raised.max_fee_per_gas = std::max(raised.max_fee_per_gas, raised.max_priority_fee_per_gas);
  return raised;
}

}  // namespace farmesh::evm
