// Vectors: the examples of the Solidity ABI specification.
#include "evm/abi.hpp"

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

using Members = AbiValue::Members;

std::string word(std::string_view digits) {
  return std::string(64 - digits.size(), '0') + std::string(digits);
}
std::string left(std::string_view digits) {
  return std::string(digits) + std::string(64 - digits.size(), '0');
}

AbiValue text(std::string_view value) { return AbiValue(std::string(value)); }
AbiValue bytes(std::string_view value) { return AbiValue(Bytes(value.begin(), value.end())); }

void check_both_ways(std::string_view tuple, const Members& values, const std::string& expected) {
  const Result<Bytes> encoded = encode_abi(tuple, values);
  REQUIRE(encoded);
  CHECK(to_hex(*encoded) == expected);
  const Result<Members> decoded = decode_abi(tuple, *encoded);
  REQUIRE(decoded);
  CHECK(*decoded == values);
}

}  // namespace

TEST_SUITE("evm/abi") {
  TEST_CASE("selectors are the first bytes of the signature's hash") {
    CHECK(to_hex(selector("baz(uint32,bool)")) == "cdcd77c0");
    CHECK(to_hex(selector("sam(bytes,bool,uint256[])")) == "a5643bf2");
    CHECK(to_hex(selector("transfer(address,uint256)")) == "a9059cbb");
    CHECK(to_hex(event_topic("Transfer(address,address,uint256)")) ==
          "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
    CHECK(to_hex(*encode_call("baz(uint32,bool)", {std::uint64_t{69}, std::uint64_t{1}})) ==
          "cdcd77c0" + word("45") + word("1"));
    CHECK(to_hex(*encode_call("pause()", {})) == "8456cb59");
  }

  TEST_CASE("the specification's examples encode as it says, and decode again") {
    check_both_ways("(bytes,bool,uint256[])",
                    {bytes("dave"), std::uint64_t{1},
                     Members{std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}}},
                    word("60") + word("1") + word("a0") + word("4") + left("64617665") + word("3") +
                        word("1") + word("2") + word("3"));
    check_both_ways("(uint256,uint32[],bytes10,bytes)",
                    {std::uint64_t{0x123}, Members{std::uint64_t{0x456}, std::uint64_t{0x789}},
                     bytes("1234567890"), bytes("Hello, world!")},
                    word("123") + word("80") + left("31323334353637383930") + word("e0") +
                        word("2") + word("456") + word("789") + word("d") +
                        left("48656c6c6f2c20776f726c6421"));
    check_both_ways(
        "(uint256[][],string[])",
        {Members{Members{std::uint64_t{1}, std::uint64_t{2}}, Members{std::uint64_t{3}}},
         Members{text("one"), text("two"), text("three")}},
        word("40") + word("140") + word("2") + word("40") + word("a0") + word("2") + word("1") +
            word("2") + word("1") + word("3") + word("3") + word("60") + word("a0") + word("e0") +
            word("3") + left("6f6e65") + word("3") + left("74776f") + word("5") +
            left("7468726565"));
  }

  TEST_CASE("static tuples stand in place, dynamic ones behind") {
    const Address who = address("0x3535353535353535353535353535353535353535");
    check_both_ways("((address,uint96)[],bytes32,(string,bool))",
                    {Members(1, Members{who, std::uint64_t{7}}), Bytes32{0xab},
                     Members{text("x"), std::uint64_t{0}}},
                    word("60") + left("ab") + word("c0") + word("1") +
                        word("3535353535353535353535353535353535353535") + word("7") + word("40") +
                        word("0") + word("1") + left("78"));
    check_both_ways("(uint8[2],(uint8,bool)[2])",
                    {Members{std::uint64_t{1}, std::uint64_t{2}},
                     Members{Members{std::uint64_t{3}, std::uint64_t{1}},
                             Members{std::uint64_t{4}, std::uint64_t{0}}}},
                    word("1") + word("2") + word("3") + word("1") + word("4") + word("0"));
    check_both_ways("()", {}, "");
  }

  TEST_CASE("a value that does not fit its type is refused") {
    for (const auto& [tuple, values] : std::vector<std::pair<std::string_view, Members>>{
             {"(uint8)", {std::uint64_t{256}}},
             {"(bool)", {std::uint64_t{2}}},
             {"(address)", {std::uint64_t{1}}},
             {"(bytes32)", {Bytes(31)}},
             {"(bytes)", {text("text")}},
             {"(string)", {Bytes(1)}},
             {"(uint8[2])", {Members{std::uint64_t{1}}}},
             {"((uint8,bool))", {Members{std::uint64_t{1}}}},
             {"(uint8)", {}},
             {"(uint8)", {std::uint64_t{1}, std::uint64_t{1}}}}) {
      const Result<Bytes> encoded = encode_abi(tuple, values);
      REQUIRE_FALSE(encoded);
      CHECK(encoded.error().code == Errc::evm_encoding_invalid);
    }
  }

  TEST_CASE("data that no compiler emits is refused") {
    const auto refused = [](std::string_view tuple, const std::string& data) {
      const Result<Members> decoded = decode_abi(tuple, data.empty() ? Bytes() : hex(data));
      REQUIRE_FALSE_MESSAGE(decoded.has_value(), data);
      CHECK(decoded.error().code == Errc::evm_encoding_invalid);
    };
    refused("(uint256)", "");
    refused("(uint256)", "00");
    refused("(uint256)", word("1") + "00");
    refused("(uint8)", word("100"));
    refused("(bool)", word("2"));
    refused("(address)", word("1" + std::string(40, '0')));
    refused("(bytes4)", left("0102030405"));
    refused("(bytes)", word("20") + word("1") + word("1"));         // padding not zero
    refused("(bytes)", word("40") + word("0") + word("0"));         // a gap before the tail
    refused("(bytes,bytes)", word("40") + word("40") + word("0"));  // one tail for two
    refused("(bytes)", word("20") + word("21") + word("0"));        // longer than the data
    refused("(bytes)", word("20") + std::string(64, 'f'));
    refused("(uint8[])", word("20") + std::string(64, 'f'));
    refused("(uint8[])", word("20") + word("100000"));
    refused("(bytes)", std::string(64, 'f') + word("0"));
  }

  TEST_CASE("arrays that all point at one place cannot make much of little") {
    // Two entries per level, both pointing at the next: 2^n values in the naive reading.
    std::string data = word("20");
    for (int level = 0; level < 6; ++level) data += word("2") + word("40") + word("40");
    CHECK_FALSE(decode_abi("(uint256[][][][][][])", hex(data)));
  }

  TEST_CASE("types that we do not know are refused") {
    for (const std::string_view type : {"",
                                        "uint",
                                        "uint7",
                                        "uint264",
                                        "uint08",
                                        "int256",
                                        "bytes0",
                                        "bytes33",
                                        "byte",
                                        "address payable",
                                        "uint256[",
                                        "uint256[0]",
                                        "uint256[-1]",
                                        "(uint256",
                                        "uint256)",
                                        "(uint256,)",
                                        "(,uint256)",
                                        "()[]",
                                        "(())",
                                        "fixed128x18",
                                        "function",
                                        "uint8[][][][][][][][][]"}) {
      CHECK_FALSE_MESSAGE(AbiType::parse(type).has_value(), type);
    }
    CHECK(AbiType::parse("(address,(uint8,bytes32[4])[])[]").has_value());
  }
}

}  // namespace farmesh::evm
