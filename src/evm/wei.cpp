#include "evm/wei.hpp"

#include <limits>

#include "base/assert.hpp"

namespace farmesh::evm {

U256 to_wei(Far amount) {
  FARMESH_ASSERT(!amount.is_negative());
  return *checked_multiply(static_cast<std::uint64_t>(amount.units()), kWeiPerUnit);
}

Result<FarOfWei> from_wei(const U256& wei) {
  const U256::Quotient units = divide(wei, kWeiPerUnit);
  const std::optional<std::uint64_t> whole = units.quotient.to_uint64();
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!whole || *whole > kMost) {
    return Error{Errc::invalid_argument, "more than an amount of $FAR can be"};
  }
  return FarOfWei{Far::from_units(static_cast<std::int64_t>(*whole)), units.remainder};
}

}  // namespace farmesh::evm
