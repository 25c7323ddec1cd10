// Vectors: the RLP specification's examples, and EIP-155's own transaction. Those of EIP-1559 are
// compared with viem's in tests/evm.
#include "evm/transaction.hpp"

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "evm/keccak.hpp"
#include "evm/rlp.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

Bytes item(std::string_view text) {
  RlpWriter writer;
  writer.bytes(view_of(text));
  return writer.items();
}

Transaction eip155_example() {
  Transaction tx;
  tx.kind = Transaction::Kind::legacy;
  tx.chain_id = 1;
  tx.nonce = 9;
  tx.gas_limit = 21'000;
  tx.max_fee_per_gas = 20'000'000'000;
  tx.to = address("0x3535353535353535353535353535353535353535");
  tx.value = 1'000'000'000'000'000'000;
  return tx;
}

Transaction modern() {
  Transaction tx;
  tx.chain_id = 56;
  tx.nonce = 7;
  tx.gas_limit = 100'000;
  tx.max_fee_per_gas = 3'000'000'000;
  tx.max_priority_fee_per_gas = 1'000'000'000;
  tx.to = address("0x3535353535353535353535353535353535353535");
  tx.data = {1, 2, 3};
  tx.access_list = {{*tx.to, {Bytes32{1}, Bytes32{2}}}, {*tx.to, {}}};
  return tx;
}

KeySigner signer_46() {
  std::string text;
  for (int i = 0; i < 32; ++i) text += "46";
  return KeySigner(key(text));
}

}  // namespace

TEST_SUITE("evm/rlp") {
  TEST_CASE("the specification's examples encode as it says") {
    CHECK(item("dog") == hex("83646f67"));
    CHECK(item("") == hex("80"));
    CHECK(item(std::string_view("\0", 1)) == hex("00"));
    CHECK(item("\x0f") == hex("0f"));
    CHECK(item(std::string_view("\x04\x00", 2)) == hex("820400"));
    CHECK(item("Lorem ipsum dolor sit amet, consectetur adipisicing elit").size() == 58);

    RlpWriter cat_dog;
    cat_dog.bytes(view_of("cat")).bytes(view_of("dog"));
    CHECK(cat_dog.as_list() == hex("c88363617483646f67"));
    CHECK(RlpWriter().as_list() == hex("c0"));

    RlpWriter none, one, two;
    one.list(none);
    two.list(none).list(one);
    RlpWriter three;
    three.list(none).list(one).list(two);
    CHECK(three.as_list() == hex("c7c0c1c0c3c0c1c0"));
  }

  TEST_CASE("what was encoded decodes, and encodes the same again") {
    for (const std::string_view text :
         {"80", "00", "7f", "8180", "83646f67", "c0", "c88363617483646f67", "c7c0c1c0c3c0c1c0"}) {
      const Bytes bytes = hex(text);
      const Result<RlpItem> decoded = decode_rlp(bytes);
      REQUIRE(decoded);
      CHECK(encode_rlp(*decoded) == bytes);
    }
    const Bytes numbers = hex("c3800f81");
    CHECK_FALSE(decode_rlp(numbers));
    const Bytes list =
        hex("c4820400"
            "0f");
    const Result<RlpItem> decoded = decode_rlp(list);
    REQUIRE(decoded);
    CHECK(*decoded->items[0].number() == U256(1024));
    CHECK(*decoded->items[1].number() == U256(15));
  }

  TEST_CASE("bytes that are not the one encoding of something are refused") {
    for (const std::string_view text :
         {"", "81", "817f", "8100", "b8", "b800", "b80102", "b9003800", "83646f", "c1", "c28363",
          "c883636174", "8080", "bfffffffffffffffff", "ffffffffffffffffff", "f800", "f90001c0"}) {
      const Bytes bytes = text.empty() ? Bytes() : hex(text);
      const Result<RlpItem> decoded = decode_rlp(bytes);
      REQUIRE_FALSE_MESSAGE(decoded.has_value(), text);
      CHECK(decoded.error().code == Errc::evm_encoding_invalid);
    }
    const Bytes zero = hex("00");
    CHECK_FALSE(decode_rlp(zero)->number());
  }

  TEST_CASE("lists in lists in lists end somewhere") {
    RlpWriter nest;
    for (int depth = 0; depth < kMaxRlpDepth + 1; ++depth) {
      RlpWriter outer;
      outer.list(nest);
      nest = outer;
    }
    CHECK(decode_rlp(nest.items()).has_value());
    RlpWriter deeper;
    deeper.list(nest);
    CHECK_FALSE(decode_rlp(deeper.items()));
    RlpWriter many;
    for (std::size_t i = 0; i < kMaxRlpItems; ++i) many.list(RlpWriter());
    CHECK_FALSE(decode_rlp(many.as_list()));
  }
}

TEST_SUITE("evm/transaction") {
  TEST_CASE("EIP-155's example is signed as it says") {
    const Transaction tx = eip155_example();
    CHECK(to_hex(signing_preimage(tx)) ==
          "ec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a7640000"
          "80018080");
    CHECK(to_hex(keccak256(signing_preimage(tx))) ==
          "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53");
    KeySigner signer = signer_46();
    const Result<SignedTransaction> made = sign_transaction(tx, signer);
    REQUIRE(made);
    CHECK(to_hex(made->raw) ==
          "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a7640000"
          "8025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f"
          "761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83");
    CHECK(made->hash == keccak256(made->raw));
  }

  TEST_CASE("a signed transaction decodes to what was signed, and to its sender") {
    for (const Transaction& tx : {eip155_example(), modern()}) {
      KeySigner signer = signer_46();
      const Result<SignedTransaction> made = sign_transaction(tx, signer);
      REQUIRE(made);
      const Result<SignedTransaction> decoded = decode_transaction(made->raw);
      REQUIRE(decoded);
      CHECK(decoded->transaction == tx);
      CHECK(decoded->sender == signer.address());
      CHECK(decoded->signature == made->signature);
      CHECK(decoded->hash == made->hash);
    }
  }

  TEST_CASE("a transaction that creates a contract has no target") {
    Transaction tx = modern();
    tx.to = std::nullopt;
    KeySigner signer = signer_46();
    const Result<SignedTransaction> made = sign_transaction(tx, signer);
    REQUIRE(made);
    CHECK(decode_transaction(made->raw)->transaction == tx);
  }

  TEST_CASE("a transaction that no pool would take is not signed") {
    KeySigner signer = signer_46();
    Transaction no_chain = modern();
    no_chain.chain_id = 0;
    Transaction greedy = modern();
    greedy.max_priority_fee_per_gas = *checked_add(greedy.max_fee_per_gas, 1);
    Transaction large = modern();
    large.data.resize(kMaxTransactionBytes);
    for (const Transaction& tx : {no_chain, greedy, large}) {
      const Result<SignedTransaction> made = sign_transaction(tx, signer);
      REQUIRE_FALSE(made);
      CHECK(made.error().code == Errc::invalid_argument);
    }
  }

  TEST_CASE("a damaged transaction is refused or has another sender") {
    KeySigner signer = signer_46();
    const Bytes raw = sign_transaction(modern(), signer)->raw;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      Bytes damaged = raw;
      damaged[i] ^= 1;
      const Result<SignedTransaction> decoded = decode_transaction(damaged);
      CHECK((!decoded || decoded->sender != signer.address()));
      CHECK_FALSE(decode_transaction(BytesView(raw).first(i)));
    }
    Bytes longer = raw;
    longer.push_back(0);
    CHECK_FALSE(decode_transaction(longer));
  }

  TEST_CASE("a transaction without a chain id could be replayed anywhere, and is refused") {
    // EIP-155's example with a v of 27.
    CHECK_FALSE(decode_transaction(
        hex("f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a7640000"
            "801ba028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f"
            "761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83")));
  }
}

}  // namespace farmesh::evm
