// Keccak-256 as Ethereum uses it: the padding of before SHA-3 was standardised.
#pragma once

#include <string_view>

#include "evm/bytes.hpp"

namespace farmesh::evm {

Bytes32 keccak256(BytesView data);
inline Bytes32 keccak256(std::string_view text) { return keccak256(view_of(text)); }

/// Of two hashes, one after the other: the step of a Merkle tree.
Bytes32 keccak256(const Bytes32& first, const Bytes32& second);

}  // namespace farmesh::evm
