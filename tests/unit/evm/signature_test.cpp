// Vectors: Keccak-256 of the empty text and of "abc" (Keccak team), EIP-55's own list, signatures
// with RFC 6979's nonces over secp256k1 as published for Bitcoin wallets, web3.js's example of a
// personal message.
#include "evm/signature.hpp"

#include <algorithm>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "evm/keccak.hpp"
#include "evm/signer.hpp"
#include "evm/u256.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

constexpr std::string_view kExampleKey =
    "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
constexpr std::string_view kExampleSignature =
    "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
    "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c";
constexpr std::string_view kOrder =
    "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// Answers with a signature that somebody else made.
class StrangeSigner final : public Signer {
 public:
  Address address() const override { return key(kExampleKey).address(); }
  Result<Signature> sign_preimage(Signable, BytesView preimage) override {
    return sign(key_, keccak256(preimage));
  }

 private:
  PrivateKey key_ = PrivateKey::generate();
};

}  // namespace

TEST_SUITE("evm/signature") {
  TEST_CASE("Keccak-256 is not SHA3-256") {
    CHECK(to_hex(keccak256("")) ==
          "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    CHECK(to_hex(keccak256("abc")) ==
          "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
    CHECK(to_hex(keccak256(std::string(200, 'q'))) != to_hex(keccak256(std::string(201, 'q'))));
  }

  TEST_CASE("addresses are written as EIP-55 lists them") {
    for (const std::string_view text : {"0x52908400098527886E0F7030069857D2E4169EE7",
                                        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
                                        "0xde709f2102306220921060314715629080e2fb77",
                                        "0x27b1fdb04752bbc536007a920d24acb045561c26",
                                        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
                                        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
                                        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
                                        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"}) {
      const Result<Address> parsed = parse_address(text);
      REQUIRE(parsed);
      CHECK(to_string(*parsed) == text);
      CHECK(parse_address(to_lower_case(*parsed)).has_value());
    }
  }

  TEST_CASE("an address with a mistyped letter is refused") {
    for (const std::string_view text :
         {"0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
          "0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
          "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
          "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAedd",
          "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
          "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg", "", "0x"}) {
      const Result<Address> parsed = parse_address(text);
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().code == Errc::wallet_invalid);
    }
  }

  TEST_CASE("signatures are deterministic, with RFC 6979's nonces and a low s") {
    struct Vector {
      std::string_view key, message, r, s;
    };
    for (const Vector& vector :
         {Vector{"0000000000000000000000000000000000000000000000000000000000000001",
                 "Satoshi Nakamoto",
                 "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8",
                 "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"},
          Vector{"0000000000000000000000000000000000000000000000000000000000000001",
                 "All those moments will be lost in time, like tears in rain. Time to die...",
                 "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b",
                 "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21"},
          Vector{"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140",
                 "Satoshi Nakamoto",
                 "fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d0",
                 "6b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5"}}) {
      const PrivateKey signing = key(vector.key);
      const Bytes32 digest = sha256(as_view(vector.message));
      const Signature signature = sign(signing, digest);
      CHECK(to_hex(signature.r) == vector.r);
      CHECK(to_hex(signature.s) == vector.s);
      CHECK(*recover(signature, digest) == signing.address());
    }
    CHECK(to_string(
              key("0000000000000000000000000000000000000000000000000000000000000001").address()) ==
          "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
  }

  TEST_CASE("a personal message is hashed with its prefix and length") {
    CHECK(to_hex(personal_digest("Some data")) ==
          "1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655");
    const Signature signature = sign(key(kExampleKey), personal_digest("Some data"));
    CHECK(to_hex0x(signature.to_bytes()) == kExampleSignature);
    CHECK(to_string(*recover(signature, personal_digest("Some data"))) ==
          "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
    CHECK(*recover(signature, personal_digest("Some Data")) != key(kExampleKey).address());
  }

  TEST_CASE("the parity byte is taken in both of its spellings") {
    Bytes bytes = hex(kExampleSignature);
    const Signature as_28 = *Signature::from_bytes(bytes);
    bytes[64] = 1;
    CHECK(*Signature::from_bytes(bytes) == as_28);
    for (const std::uint8_t wrong : {2, 3, 26, 29, 35, 255}) {
      bytes[64] = wrong;
      CHECK_FALSE(Signature::from_bytes(bytes));
    }
  }

  TEST_CASE("the other form of a signature, with a high s, is refused") {
    Bytes bytes = hex(kExampleSignature);
    const U256 s = U256::from_big_endian(BytesView(bytes).subspan(32, 32));
    const Bytes32 high = checked_subtract(U256::from_big_endian(hex(kOrder)), s)->to_big_endian();
    std::ranges::copy(high, bytes.begin() + 32);
    bytes[64] = 27;
    const Result<Signature> refused = Signature::from_bytes(bytes);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::wallet_signature_invalid);
    Signature by_hand;
    std::copy_n(bytes.begin(), 32, by_hand.r.begin());
    by_hand.s = high;
    CHECK_FALSE(recover(by_hand, personal_digest("Some data")));
  }

  TEST_CASE("bytes that are no signature are refused") {
    CHECK_FALSE(Signature::parse("0x"));
    CHECK_FALSE(Signature::parse("not hexadecimal"));
    CHECK_FALSE(Signature::from_bytes(Bytes(64)));
    CHECK_FALSE(Signature::from_bytes(Bytes(65, 0xff)));
    CHECK_FALSE(recover(Signature{}, Bytes32{}));
  }

  TEST_CASE("only numbers from 1 to the order are keys") {
    CHECK_FALSE(PrivateKey::from_bytes(Bytes(32)));
    CHECK_FALSE(PrivateKey::from_bytes(Bytes(31, 1)));
    CHECK_FALSE(PrivateKey::from_bytes(hex(kOrder)));
    CHECK(PrivateKey::generate().address() != PrivateKey::generate().address());
  }

  TEST_CASE("an outside signer's answer is not taken on trust") {
    KeySigner honest(key(kExampleKey));
    CHECK(sign_checked(honest, Signable::personal_message, personal_preimage("x")).has_value());
    StrangeSigner strange;
    const Result<Signature> refused =
        sign_checked(strange, Signable::personal_message, personal_preimage("x"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::wallet_signature_invalid);
  }
}

}  // namespace farmesh::evm
