#include "evm/u256.hpp"

#include <doctest/doctest.h>

#include <farmesh/money.hpp>

#include "evm/wei.hpp"

namespace farmesh::evm {
namespace {

constexpr std::string_view kMost =
    "115792089237316195423570985008687907853269984665640564039457584007913129639935";

U256 decimal(std::string_view text) {
  const Result<U256> parsed = U256::parse_decimal(text);
  REQUIRE(parsed);
  return *parsed;
}

}  // namespace

TEST_SUITE("evm/u256") {
  TEST_CASE("decimal text comes back as it went in") {
    const std::string_view texts[] = {"0",
                                      "1",
                                      "9",
                                      "10",
                                      "10000000000000000000",
                                      "18446744073709551615",
                                      "18446744073709551616",
                                      "340282366920938463463374607431768211456",
                                      "1000000000000000000000000000000000000000000000000",
                                      kMost};
    for (const std::string_view text : texts) {
      CHECK(decimal(text).to_decimal() == text);
    }
    CHECK(decimal(kMost) == U256::max());
  }

  TEST_CASE("text that is no number below 2^256 is refused") {
    for (const std::string_view text :
         {"", "-1", "+1", " 1", "1 ", "01", "1e3", "1.0", "0x1",
          "115792089237316195423570985008687907853269984665640564039457584007913129639936",
          "999999999999999999999999999999999999999999999999999999999999999999999999999999"}) {
      const Result<U256> parsed = U256::parse_decimal(text);
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().code == Errc::evm_encoding_invalid);
    }
  }

  TEST_CASE("quantities are the shortest hexadecimal") {
    CHECK(U256(0).to_quantity() == "0x0");
    CHECK(U256(65).to_quantity() == "0x41");
    CHECK(U256(1024).to_quantity() == "0x400");
    CHECK(U256::max().to_quantity() == "0x" + std::string(64, 'f'));
    CHECK(*U256::parse_quantity("0xDeadBeef") == U256(0xdeadbeef));
    for (const std::string_view text : {"", "0x", "0x01", "ff", "0xg", "0X1", "0x 1"}) {
      CHECK_FALSE(U256::parse_quantity(text));
    }
    CHECK_FALSE(U256::parse_quantity("0x1" + std::string(64, '0')));
  }

  TEST_CASE("big-endian bytes carry every bit") {
    const U256 value =
        *U256::parse_quantity("0x102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20");
    CHECK(U256::from_big_endian(value.to_big_endian()) == value);
    CHECK(value.to_big_endian()[0] == 1);
    CHECK(value.to_big_endian()[31] == 0x20);
    CHECK(U256(0).to_minimal_big_endian().empty());
    CHECK(U256(256).to_minimal_big_endian() == Bytes{1, 0});
    CHECK(value.bit_length() == 249);
    CHECK(U256().bit_length() == 0);
  }

  TEST_CASE("a result that does not fit is nothing, not something else") {
    CHECK_FALSE(checked_add(U256::max(), 1));
    CHECK_FALSE(checked_subtract(0, 1));
    const U256 half = decimal("340282366920938463463374607431768211456");  // 2^128
    CHECK_FALSE(checked_multiply(half, half));
    CHECK_FALSE(checked_multiply(U256::max(), 2));
    CHECK(*checked_multiply(U256::max(), 1) == U256::max());
    CHECK(*checked_multiply(U256::max(), 0) == U256(0));
    CHECK(*checked_subtract(half, 1) == decimal("340282366920938463463374607431768211455"));
    CHECK(*checked_add(*checked_subtract(half, 1), 1) == half);
    CHECK(*checked_multiply(*checked_subtract(half, 1), *checked_add(half, 1)) == U256::max());
  }

  TEST_CASE("order looks at the most significant bits first") {
    CHECK(U256(~std::uint64_t{0}) < decimal("18446744073709551616"));
    CHECK(U256(2) > U256(1));
    CHECK(decimal("18446744073709551616").to_uint64() == std::nullopt);
    CHECK(U256(7).to_uint64() == 7);
  }

  TEST_CASE("division rounds down and gives the rest") {
    const U256::Quotient result = divide(U256::max(), 10);
    CHECK(result.quotient.to_decimal() + std::to_string(result.remainder) == kMost);
  }
}

TEST_SUITE("evm/wei") {
  TEST_CASE("a base unit of the ledger is 10^10 of the chain's") {
    CHECK(to_wei(*Far::parse("0.0512")).to_decimal() == "51200000000000000");
    CHECK(to_wei(Far()).is_zero());
    const Far most = Far::from_units(INT64_MAX);
    CHECK(to_wei(most).to_decimal() == "92233720368547758070000000000");
    CHECK(from_wei(to_wei(most))->amount == most);
  }

  TEST_CASE("what is below a base unit is told, and what is too much is refused") {
    const Result<FarOfWei> some = from_wei(*U256::parse_decimal("51200000000000001"));
    REQUIRE(some);
    CHECK(some->amount == *Far::parse("0.0512"));
    CHECK(some->dust_wei == 1);
    CHECK_FALSE(from_wei(*U256::parse_decimal("92233720368547758080000000000")));
    CHECK_FALSE(from_wei(U256::max()));
  }
}

}  // namespace farmesh::evm
