// Vectors: SHA-256 from FIPS 180-4 and its examples, HMAC-SHA-256 from RFC 4231.
#include "base/digest.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

namespace farmesh {
namespace {

std::string sha256_hex(std::string_view text) { return to_hex(sha256(as_view(text))); }

std::string hmac_hex(std::string_view key, std::string_view text) {
  return to_hex(hmac_sha256(as_view(key), as_view(text)));
}

}  // namespace

TEST_SUITE("base/digest") {
  TEST_CASE("SHA-256 gives the standard's digests") {
    CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(sha256_hex(std::string(1'000'000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }

  TEST_CASE("data given in parts has the digest of the whole") {
    const std::string text(1'000, 'q');
    for (const std::size_t part : {1u, 63u, 64u, 65u, 999u}) {
      Sha256 hash;
      for (std::size_t at = 0; at < text.size(); at += part) {
        hash.update(as_view(std::string_view(text).substr(at, part)));
      }
      CHECK(hash.finish() == sha256(as_view(text)));
    }
  }

  TEST_CASE("HMAC-SHA-256 gives RFC 4231's results") {
    std::string counting;
    for (char c = 1; c <= 25; ++c) counting += c;

    CHECK(hmac_hex(std::string(20, '\x0b'), "Hi There") ==
          "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    CHECK(hmac_hex("Jefe", "what do ya want for nothing?") ==
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK(hmac_hex(std::string(20, '\xaa'), std::string(50, '\xdd')) ==
          "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    CHECK(hmac_hex(counting, std::string(50, '\xcd')) ==
          "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    CHECK(hmac_hex(std::string(131, '\xaa'),
                   "Test Using Larger Than Block-Size Key - Hash Key First") ==
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    CHECK(hmac_hex(std::string(131, '\xaa'),
                   "This is a test using a larger than block-size key and a larger than block-size "
                   "data. The key needs to be hashed before being used by the HMAC algorithm.") ==
          "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
  }

  TEST_CASE("HMAC-SHA-256 takes an empty key and empty data") {
    CHECK(hmac_hex("", "") == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  }

  TEST_CASE("hexadecimal goes there and back, in either case") {
    const std::array<std::uint8_t, 4> bytes = {0x00, 0x7f, 0xa0, 0xff};
    CHECK(to_hex(bytes) == "007fa0ff");
    CHECK(to_hex({}).empty());

    std::array<std::uint8_t, 4> read{};
    CHECK(from_hex("007fa0ff", read));
    CHECK(read == bytes);
    CHECK(from_hex("007FA0fF", read));
    CHECK(read == bytes);
  }

  TEST_CASE("text that is not exactly the digits asked for is refused") {
    std::array<std::uint8_t, 2> read{};
    for (const std::string_view wrong : {"", "0", "012", "01234", "012g", "0x12", "01 2", "-123"}) {
      CHECK_FALSE(from_hex(wrong, read));
    }
  }

  TEST_CASE("random bytes fill everything they are given") {
    std::array<std::uint8_t, 64> first{};
    std::array<std::uint8_t, 64> second{};
    random_bytes(first);
    random_bytes(second);
    CHECK(first != second);
    CHECK(std::any_of(first.end() - 16, first.end(), [](std::uint8_t byte) { return byte != 0; }));
    random_bytes({});
  }
}

}  // namespace farmesh
