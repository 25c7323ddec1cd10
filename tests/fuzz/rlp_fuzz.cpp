// Any bytes as RLP and as a signed transaction: what is accepted encodes back to the same bytes.
#include <algorithm>
#include <cstdint>

#include "base/assert.hpp"
#include "evm/rlp.hpp"
#include "evm/transaction.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const evm::BytesView bytes(data, size);
  if (const Result<evm::RlpItem> item = evm::decode_rlp(bytes)) {
    FARMESH_ASSERT(std::ranges::equal(evm::encode_rlp(*item), bytes));
  }
  if (const Result<evm::SignedTransaction> decoded = evm::decode_transaction(bytes)) {
    FARMESH_ASSERT(std::ranges::equal(decoded->raw, bytes));
    FARMESH_ASSERT(!evm::signing_preimage(decoded->transaction).empty());
  }
  return 0;
}
