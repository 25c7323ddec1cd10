// Grants, receipts and questions after receipts from strangers: whatever decodes is within its
// bounds and encodes to the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/assert.hpp"
#include "wire/receipt.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::span<const std::uint8_t> bytes(data, size);
  if (const auto receipt = wire::decode_signed_receipt(bytes)) {
    FARMESH_ASSERT(std::ranges::equal(wire::encode(*receipt), bytes));
    FARMESH_ASSERT(receipt->receipt.span.end <= wire::kMaxLayers);
    FARMESH_ASSERT(receipt->receipt.counts.decode <= wire::kMaxCount);
  }
  if (const auto grant = wire::decode_signed_grant(bytes)) {
    FARMESH_ASSERT(std::ranges::equal(wire::encode(*grant), bytes));
    FARMESH_ASSERT(!grant->grant.price_per_token.is_negative());
  }
  if (const auto accounts = wire::decode_accounts(bytes)) {
    FARMESH_ASSERT(std::ranges::equal(wire::encode(*accounts), bytes));
    FARMESH_ASSERT(accounts->size() <= wire::kMaxAskedAccounts);
  }
  return 0;
}
