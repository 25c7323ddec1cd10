#include "evm/keccak.hpp"

#include <cryptopp/keccak.h>

namespace farmesh::evm {

Bytes32 keccak256(BytesView data) {
  CryptoPP::Keccak_256 hash;
  Bytes32 digest{};
  hash.Update(data.data(), data.size());
  hash.Final(digest.data());
  return digest;
}

Bytes32 keccak256(const Bytes32& first, const Bytes32& second) {
  CryptoPP::Keccak_256 hash;
  Bytes32 digest{};
  hash.Update(first.data(), first.size());
  hash.Update(second.data(), second.size());
  hash.Final(digest.data());
  return digest;
}

}  // namespace farmesh::evm
