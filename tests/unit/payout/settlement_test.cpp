// The bytes of a batch's call.
#include "payout/settlement.hpp"

#include <doctest/doctest.h>

#include "unit/payout/memory_chain.hpp"

namespace farmesh::test {
namespace {

using payout::Method;
using payout::Settlement;

const std::string kId = "00112233-4455-6677-8899-aabbccddeeff";

Settlement example(Method method) {
  return {kId,
          method,
          {{address_of(9), *Far::parse("0.0513")}},
          {{address_of(1), *Far::parse("0.0170")},
           {address_of(2), *Far::parse("0.0171")},
           {address_of(3), *Far::parse("0.0171")}},
          *Far::parse("0.0001")};
}

}  // namespace

TEST_SUITE("payout/settlement") {
  TEST_CASE("what is encoded decodes to the same, directly and as a tree") {
    const Settlement direct = example(Method::direct);
    const auto data = payout::encode_settlement(direct, 97, address_of(0xee));
    REQUIRE_MESSAGE(data, data.error().to_string());
    const auto back = payout::decode_settlement(*data);
    REQUIRE_MESSAGE(back, back.error().to_string());
    CHECK(back->key == payout::batch_key(kId));
    CHECK(back->charges == direct.charges);
    CHECK(back->payments == direct.payments);
    CHECK(back->fee == direct.fee);
    CHECK(back->total == *Far::parse("0.0512"));

    const Settlement merkle = example(Method::merkle);
    const auto root = payout::encode_settlement(merkle, 97, address_of(0xee));
    REQUIRE(root);
    const auto tree = payout::decode_settlement(*root);
    REQUIRE(tree);
    CHECK(tree->method == Method::merkle);
    CHECK(tree->total == *Far::parse("0.0512"));
    CHECK(tree->root == payout::payment_tree(merkle, 97, address_of(0xee))->root());
    CHECK(tree->root != payout::payment_tree(merkle, 56, address_of(0xee))->root());
  }

  TEST_CASE("a batch's key is its id, and readable") {
    const auto key = payout::batch_key(kId);
    CHECK(evm::to_hex0x(key) ==
          "0x00112233445566778899aabbccddeeff00000000000000000000000000000000");
  }

  TEST_CASE("sums that do not meet, and sums beyond any amount, are never encoded") {
    Settlement uneven = example(Method::direct);
    uneven.fee = Far();
    CHECK_FALSE(payout::encode_settlement(uneven, 97, address_of(0xee)));
    Settlement huge = example(Method::direct);
    huge.payments.assign(2, {address_of(1), Far::from_units(std::numeric_limits<long>::max())});
    CHECK_FALSE(payout::imbalance(huge));
    CHECK_FALSE(payout::encode_settlement(huge, 97, address_of(0xee)));
  }

  TEST_CASE("other calls and parts of a unit are not ours") {
    CHECK_FALSE(payout::decode_settlement({}));
    auto data = *payout::encode_settlement(example(Method::direct), 97, address_of(0xee));
    data[0] ^= 1;
    CHECK_FALSE(payout::decode_settlement(data));
    data[0] ^= 1;
    data.pop_back();
    CHECK_FALSE(payout::decode_settlement(data));
  }
}

}  // namespace farmesh::test
