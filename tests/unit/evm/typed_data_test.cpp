// Vectors: EIP-712's own example, and EIP-2612's type hash as OpenZeppelin has it.
#include "evm/typed_data.hpp"

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "evm/keccak.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

TypedStruct person(std::string name, std::string_view wallet) {
  return {"Person",
          {{"string", "name", std::move(name)}, {"address", "wallet", AbiValue(address(wallet))}}};
}

TypedStruct mail() {
  const TypedStruct from = person("Cow", "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826");
  const TypedStruct to = person("Bob", "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB");
  return {"Mail",
          {{"Person", "from", std::vector{from}},
           {"Person", "to", std::vector{to}},
           {"string", "contents", AbiValue(std::string("Hello, Bob!"))}}};
}

TypedDomain ether_mail() {
  return {"Ether Mail", "1", U256(1), address("0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC")};
}

}  // namespace

TEST_SUITE("evm/typed_data") {
  TEST_CASE("EIP-712's example hashes and is signed as it says") {
    CHECK(encode_type(mail()) ==
          "Mail(Person from,Person to,string contents)Person(string name,address wallet)");
    CHECK(to_hex(keccak256(encode_type(mail()))) ==
          "a0cedeb2dc280ba39b857546d74f5549c3a1d7bdc2dd96bf881f76108e23dac2");
    CHECK(to_hex(*hash_struct(mail())) ==
          "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e");
    CHECK(to_hex(*domain_separator(ether_mail())) ==
          "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f");
    CHECK(to_hex(*typed_digest(ether_mail(), mail())) ==
          "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");

    const PrivateKey cow = key(to_hex(keccak256("cow")));
    const Signature signature = sign(cow, *typed_digest(ether_mail(), mail()));
    CHECK(to_hex0x(signature.to_bytes()) ==
          "0x4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
          "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b915621c");
  }

  TEST_CASE("a permit has EIP-2612's type") {
    const TypedStruct permit = typed(Permit{.deadline = U256::max()});
    CHECK(to_hex(keccak256(encode_type(permit))) ==
          "6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9");
    CHECK(hash_struct(permit).has_value());
  }

  TEST_CASE("a reservation has the escrow's type") {
    CHECK(encode_type(typed(Reservation{})) ==
          "Reservation(address user,bytes32 requestId,uint256 amount,uint64 deadline)");
    CHECK(typed_digest(escrow_domain(56, Address{}), typed(Reservation{})).has_value());
  }

  TEST_CASE("arrays are hashed over their members") {
    const TypedStruct numbers{
        "Numbers",
        {{"uint256[]", "values", AbiValue(AbiValue::Members{std::uint64_t{1}, std::uint64_t{2}})},
         {"bytes", "data", AbiValue(Bytes{1})},
         {"Person[]", "people",
          std::vector{person("a", "0x3535353535353535353535353535353535353535")}}}};
    CHECK(encode_type(numbers) ==
          "Numbers(uint256[] values,bytes data,Person[] people)Person(string name,address wallet)");
    CHECK(hash_struct(numbers).has_value());
  }

  TEST_CASE("a member whose value does not fit its type is refused") {
    const auto refused = [](TypedStruct::Member member) {
      const Result<Bytes32> hash = hash_struct({"S", {std::move(member)}});
      REQUIRE_FALSE(hash);
      CHECK(hash.error().code == Errc::evm_encoding_invalid);
    };
    refused({"uint8", "a", AbiValue(U256(256))});
    refused({"int256", "a", AbiValue(U256(1))});
    refused({"string", "a", AbiValue(Bytes{1})});
    refused({"bytes", "a", AbiValue(std::string("x"))});
    refused({"uint256[]", "a", AbiValue(U256(1))});
    refused({"uint256[2]", "a", AbiValue(AbiValue::Members{std::uint64_t{1}})});
    refused({"Person", "a", std::vector<TypedStruct>{}});
    refused(
        {"Animal", "a", std::vector{person("a", "0x3535353535353535353535353535353535353535")}});
  }
}

}  // namespace farmesh::evm
