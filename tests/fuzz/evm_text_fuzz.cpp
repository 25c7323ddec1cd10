// Any text as a number, an address, a signature or hexadecimal: what is accepted has few
// spellings, and each leads back to the same value.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "evm/address.hpp"
#include "evm/signature.hpp"
#include "evm/u256.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const Result<evm::U256> number = evm::U256::parse_decimal(text)) {
    FARMESH_ASSERT(number->to_decimal() == text);
    FARMESH_ASSERT(*evm::U256::parse_quantity(number->to_quantity()) == *number);
  }
  if (const Result<evm::U256> number = evm::U256::parse_quantity(text)) {
    FARMESH_ASSERT(number->to_quantity().size() == text.size());
    FARMESH_ASSERT(*evm::U256::parse_decimal(number->to_decimal()) == *number);
  }
  if (const Result<evm::Address> address = evm::parse_address(text)) {
    FARMESH_ASSERT(to_string(*address) == text || to_lower_case(*address) == text);
  }
  if (const Result<evm::Signature> signature = evm::Signature::parse(text)) {
    FARMESH_ASSERT(*evm::Signature::from_bytes(signature->to_bytes()) == *signature);
  }
  if (const Result<evm::Bytes> bytes = evm::parse_hex0x(text, 64)) {
    FARMESH_ASSERT(bytes->size() <= 64 && evm::to_hex0x(*bytes).size() == text.size());
  }
  return 0;
}
