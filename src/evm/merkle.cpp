#include "evm/merkle.hpp"

#include <algorithm>
#include <numeric>

#include "base/assert.hpp"
#include "evm/keccak.hpp"

namespace farmesh::evm {
namespace {

Bytes32 pair_hash(const Bytes32& a, const Bytes32& b) {
  return a < b ? keccak256(a, b) : keccak256(b, a);
}

}  // namespace

Result<Bytes32> merkle_leaf(const AbiType& tuple, const AbiValue::Members& values) {
  const Result<Bytes> encoded = encode_abi(tuple, values);
  if (!encoded) return encoded.error();
  return keccak256(keccak256(*encoded));
}

MerkleTree::MerkleTree(std::vector<Bytes32> leaves) : place_of_(leaves.size()) {
  FARMESH_ASSERT(!leaves.empty());
  std::vector<std::size_t> order(leaves.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&leaves](std::size_t i) { return leaves[i]; });

  // n leaves have n - 1 nodes above them; the smallest leaf is the last node.
  nodes_.resize(2 * leaves.size() - 1);
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const std::size_t node = nodes_.size() - 1 - rank;
    nodes_[node] = leaves[order[rank]];
    place_of_[order[rank]] = node;
  }
  for (std::size_t node = leaves.size() - 1; node-- > 0;) {
    nodes_[node] = pair_hash(nodes_[2 * node + 1], nodes_[2 * node + 2]);
  }
}

std::vector<Bytes32> MerkleTree::proof(std::size_t index) const {
  FARMESH_ASSERT(index < place_of_.size());
  std::vector<Bytes32> siblings;
  for (std::size_t node = place_of_[index]; node > 0; node = (node - 1) / 2) {
    siblings.push_back(nodes_[node % 2 == 1 ? node + 1 : node - 1]);
  }
  return siblings;
}

bool verify_merkle_proof(const Bytes32& root, const Bytes32& leaf,
                         const std::vector<Bytes32>& proof) {
  Bytes32 hash = leaf;
  for (const Bytes32& sibling : proof) hash = pair_hash(hash, sibling);
  return hash == root;
}

}  // namespace farmesh::evm
