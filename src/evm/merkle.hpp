// Merkle trees whose proofs OpenZeppelin's MerkleProof checks: leaves hashed twice, pairs sorted.
//
// The layout is that of OpenZeppelin's StandardMerkleTree, so that equal leaves give equal roots
// there and here, in whatever order they come.
#pragma once

#include <cstddef>
#include <vector>

#include "evm/abi.hpp"

namespace farmesh::evm {

/// keccak256(keccak256(abi.encode(values))): a claim can never be taken for an inner node.
Result<Bytes32> merkle_leaf(const AbiType& tuple, const AbiValue::Members& values);

class MerkleTree {
 public:
  /// At least one leaf; equal leaves are allowed.
  explicit MerkleTree(std::vector<Bytes32> leaves);

  const Bytes32& root() const noexcept { return nodes_.front(); }
  std::size_t size() const noexcept { return place_of_.size(); }
  /// The siblings from the leaf that was given as number `index` up to the root.
  std::vector<Bytes32> proof(std::size_t index) const;

 private:
  std::vector<Bytes32> nodes_;         // root first; children of i at 2i + 1 and 2i + 2
  std::vector<std::size_t> place_of_;  // leaf as given → its node
};

bool verify_merkle_proof(const Bytes32& root, const Bytes32& leaf,
                         const std::vector<Bytes32>& proof);

}  // namespace farmesh::evm
