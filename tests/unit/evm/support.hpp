// Short ways to write bytes, keys and addresses in the cases of this folder.
#pragma once

#include <string>
#include <string_view>

#include "base/assert.hpp"
#include "evm/address.hpp"
#include "evm/bytes.hpp"
#include "evm/keystore.hpp"
#include "evm/signature.hpp"

namespace farmesh::evm {

inline Bytes hex(std::string_view text) {
  const std::string whole = text.starts_with("0x") ? std::string(text) : "0x" + std::string(text);
  Result<Bytes> bytes = parse_hex0x(whole, 1 << 20);
  FARMESH_ASSERT(bytes.has_value());
  return *std::move(bytes);
}

inline Bytes32 hash(std::string_view text) {
  const Bytes bytes = hex(text);
  FARMESH_ASSERT(bytes.size() == 32);
  Bytes32 copy{};
  std::copy(bytes.begin(), bytes.end(), copy.begin());
  return copy;
}

inline Address address(std::string_view text) {
  const Result<Address> parsed = parse_address(text);
  FARMESH_ASSERT(parsed.has_value());
  return *parsed;
}

inline PrivateKey key(std::string_view text) {
  Result<PrivateKey> parsed = parse_private_key(text);
  FARMESH_ASSERT(parsed.has_value());
  return *std::move(parsed);
}

}  // namespace farmesh::evm
