// Signatures over secp256k1: made deterministically (RFC 6979) with a low s, and the signer's
// address recovered from them. Personal messages (EIP-191).
//
// Pure functions; keys are wiped when they go. Safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "evm/address.hpp"
#include "evm/bytes.hpp"
#include "evm/secret.hpp"

namespace farmesh::evm {

struct Signature {
  Bytes32 r{};
  Bytes32 s{};
  std::uint8_t y_parity = 0;  // 0 or 1

  /// r, s, and 27 or 28: what wallets give and contracts take.
  std::array<std::uint8_t, 65> to_bytes() const noexcept;
  /// The last byte may be 0, 1, 27 or 28. A high s is refused, because whoever saw the other
  /// form could make a second signature of it. Fails with wallet_signature_invalid.
  static Result<Signature> from_bytes(BytesView bytes);
  /// 65 bytes in "0x…" text.
  static Result<Signature> parse(std::string_view text);

  friend bool operator==(const Signature&, const Signature&) = default;
};

class PrivateKey {
 public:
  /// Fails with invalid_argument unless 0 < key < the curve's order, in 32 bytes.
  static Result<PrivateKey> from_bytes(BytesView bytes);
  static PrivateKey generate();

  const Address& address() const noexcept { return address_; }
  BytesView bytes() const noexcept { return secret_.bytes(); }

 private:
  PrivateKey(Secret secret, const Address& address)
      : secret_(std::move(secret)), address_(address) {}

  Secret secret_;
  Address address_;
};

Signature sign(const PrivateKey& key, const Bytes32& digest);

/// The address whose key made this signature of `digest`: some address comes out of nearly any
/// bytes, so compare it. Fails with wallet_signature_invalid.
Result<Address> recover(const Signature& signature, const Bytes32& digest);

/// What EIP-191 hashes for a personal message: a prefix, the length in bytes, the message.
Bytes personal_preimage(std::string_view message);
Bytes32 personal_digest(std::string_view message);

}  // namespace farmesh::evm
