// A line with an ABI type, then any bytes as its data: what is accepted encodes back to the same
// bytes, and no short input makes much work.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "evm/abi.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const evm::BytesView input(data, size);
  const auto end = std::ranges::find(input, std::uint8_t{'\n'});
  if (end == input.end()) return 0;
  const auto line = static_cast<std::size_t>(end - input.begin());
  const std::string_view text(reinterpret_cast<const char*>(data), line);
  const Result<evm::AbiType> type = evm::AbiType::parse(text);
  if (!type || type->kind != evm::AbiType::Kind::tuple) return 0;
  const evm::BytesView body = input.subspan(line + 1);
  const Result<evm::AbiValue::Members> values = evm::decode_abi(*type, body);
  if (!values) return 0;
  const Result<evm::Bytes> again = evm::encode_abi(*type, *values);
  FARMESH_ASSERT(again.has_value());
  FARMESH_ASSERT(std::ranges::equal(*again, body));
  return 0;
}
