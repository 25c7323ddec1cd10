// Vector: the example of OpenZeppelin's merkle-tree library.
#include "evm/merkle.hpp"

#include <algorithm>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "evm/keccak.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

std::vector<Bytes32> numbered_leaves(std::size_t count) {
  std::vector<Bytes32> leaves;
  for (std::size_t i = 0; i < count; ++i) leaves.push_back(keccak256(std::to_string(i)));
  return leaves;
}

}  // namespace

TEST_SUITE("evm/merkle") {
  TEST_CASE("OpenZeppelin's example has its root") {
    const AbiType type = *AbiType::parse("(address,uint256)");
    const auto leaf = [&type](std::string_view who, std::string_view amount) {
      return *merkle_leaf(type, {address(who), *U256::parse_decimal(amount)});
    };
    const MerkleTree tree(
        {leaf("0x1111111111111111111111111111111111111111", "5000000000000000000"),
         leaf("0x2222222222222222222222222222222222222222", "2500000000000000000")});
    CHECK(to_hex(tree.root()) ==
          "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77");
  }

  TEST_CASE("every leaf of a tree of any size proves itself, and nothing else") {
    for (std::size_t count = 1; count <= 33; ++count) {
      const std::vector<Bytes32> leaves = numbered_leaves(count);
      const MerkleTree tree(leaves);
      for (std::size_t i = 0; i < count; ++i) {
        const std::vector<Bytes32> proof = tree.proof(i);
        CHECK(verify_merkle_proof(tree.root(), leaves[i], proof));
        CHECK_FALSE(verify_merkle_proof(tree.root(), keccak256("another"), proof));
        CHECK(proof.size() <= 6);
      }
    }
  }

  TEST_CASE("the order of the leaves does not matter, and equal leaves are allowed") {
    std::vector<Bytes32> leaves = numbered_leaves(9);
    leaves.push_back(leaves.front());
    const MerkleTree tree(leaves);
    std::ranges::reverse(leaves);
    const MerkleTree turned(leaves);
    CHECK(turned.root() == tree.root());
    CHECK(verify_merkle_proof(tree.root(), leaves[0], turned.proof(0)));
  }

  TEST_CASE("a value that does not fit gives no leaf") {
    CHECK_FALSE(merkle_leaf(*AbiType::parse("(address,uint256)"), {U256(1), U256(1)}));
  }
}

}  // namespace farmesh::evm
