#include "evm/signature.hpp"

#include <algorithm>

#include <secp256k1.h>
#include <secp256k1_recovery.h>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "evm/keccak.hpp"

namespace farmesh::evm {
namespace {

// One for the process, blinded once against side channels and constant afterwards, so that any
// thread may use it.
const secp256k1_context* context() {
  static const secp256k1_context* const shared = [] {
    secp256k1_context* made =
        secp256k1_context_create(SECP256K1_CONTEXT_SIGN | SECP256K1_CONTEXT_VERIFY);
    Bytes32 seed{};
    random_bytes(seed);
    FARMESH_ASSERT(made != nullptr && secp256k1_context_randomize(made, seed.data()) == 1);
    wipe(seed);
    return made;
  }();
  return shared;
}

Address address_of(const secp256k1_pubkey& key) {
  std::array<std::uint8_t, 65> point{};  // 4, x, y
  std::size_t size = point.size();
  FARMESH_ASSERT(secp256k1_ec_pubkey_serialize(context(), point.data(), &size, &key,
                                               SECP256K1_EC_UNCOMPRESSED) == 1);
  const Bytes32 hash = keccak256(BytesView(point).subspan(1));
  Address address;
  std::copy(hash.begin() + 12, hash.end(), address.bytes.begin());
  return address;
}

bool has_low_s(const std::array<std::uint8_t, 64>& compact) {
  secp256k1_ecdsa_signature signature;
  return secp256k1_ecdsa_signature_parse_compact(context(), &signature, compact.data()) == 1 &&
         secp256k1_ecdsa_signature_normalize(context(), nullptr, &signature) == 0;
}

std::array<std::uint8_t, 64> compact_of(const Signature& signature) {
  std::array<std::uint8_t, 64> compact{};
  std::ranges::copy(signature.r, compact.begin());
  std::ranges::copy(signature.s, compact.begin() + 32);
  return compact;
}

}  // namespace

std::array<std::uint8_t, 65> Signature::to_bytes() const noexcept {
  std::array<std::uint8_t, 65> bytes{};
  std::ranges::copy(compact_of(*this), bytes.begin());
  bytes[64] = static_cast<std::uint8_t>(27 + y_parity);
  return bytes;
}

Result<Signature> Signature::from_bytes(BytesView bytes) {
  if (bytes.size() != 65) {
    return Error{Errc::wallet_signature_invalid, "a signature has 65 bytes"};
  }
  Signature signature;
  std::ranges::copy(bytes.first(32), signature.r.begin());
  std::ranges::copy(bytes.subspan(32, 32), signature.s.begin());
  const std::uint8_t v = bytes[64] >= 27 ? bytes[64] - 27 : bytes[64];
  if (v > 1) return Error{Errc::wallet_signature_invalid, "its last byte is not 0, 1, 27 or 28"};
  signature.y_parity = v;
  if (!has_low_s(compact_of(signature))) {
    return Error{Errc::wallet_signature_invalid, "its r or s is outside the range of signatures"};
  }
  return signature;
}

Result<Signature> Signature::parse(std::string_view text) {
  std::array<std::uint8_t, 65> bytes{};
  if (!parse_hex0x_into(text, bytes)) {
    return Error{Errc::wallet_signature_invalid, "a signature is 0x and 130 hexadecimal digits"};
  }
  return from_bytes(bytes);
}

Result<PrivateKey> PrivateKey::from_bytes(BytesView bytes) {
  secp256k1_pubkey point;
  if (bytes.size() != 32 || secp256k1_ec_pubkey_create(context(), &point, bytes.data()) != 1) {
    return Error{Errc::invalid_argument, "not a private key of secp256k1"};
  }
  return PrivateKey(Secret(bytes), address_of(point));
}

PrivateKey PrivateKey::generate() {
  Secret secret(32);
  for (;;) {  // nearly all 256-bit numbers are keys
    random_bytes(secret.bytes());
    if (Result<PrivateKey> key = from_bytes(secret.bytes())) return *std::move(key);
  }
}

Signature sign(const PrivateKey& key, const Bytes32& digest) {
  secp256k1_ecdsa_recoverable_signature made;
  // A null nonce function is RFC 6979's; the library gives the low s.
  FARMESH_ASSERT(secp256k1_ecdsa_sign_recoverable(context(), &made, digest.data(),
                                                  key.bytes().data(), nullptr, nullptr) == 1);
  std::array<std::uint8_t, 64> compact{};
  int recovery = 0;
  secp256k1_ecdsa_recoverable_signature_serialize_compact(context(), compact.data(), &recovery,
                                                          &made);
  // 2 and 3 stand for an r above the order, which nobody will ever see.
  FARMESH_ASSERT(recovery == 0 || recovery == 1);
  Signature signature;
  std::copy(compact.begin(), compact.begin() + 32, signature.r.begin());
  std::copy(compact.begin() + 32, compact.end(), signature.s.begin());
  signature.y_parity = static_cast<std::uint8_t>(recovery);
  return signature;
}

Result<Address> recover(const Signature& signature, const Bytes32& digest) {
  const Error invalid{Errc::wallet_signature_invalid, "no key could have made this signature"};
  const std::array<std::uint8_t, 64> compact = compact_of(signature);
  secp256k1_ecdsa_recoverable_signature parsed;
  secp256k1_pubkey point;
  if (signature.y_parity > 1 || !has_low_s(compact) ||
      secp256k1_ecdsa_recoverable_signature_parse_compact(context(), &parsed, compact.data(),
                                                          signature.y_parity) != 1 ||
      secp256k1_ecdsa_recover(context(), &point, &parsed, digest.data()) != 1) {
    return invalid;
  }
  return address_of(point);
}

Bytes personal_preimage(std::string_view message) {
  const std::string prefix =
      "\x19"
      "Ethereum Signed Message:\n" +
      std::to_string(message.size());
  Bytes preimage;
  preimage.reserve(prefix.size() + message.size());
  append(preimage, view_of(prefix));
  append(preimage, view_of(message));
  return preimage;
}

Bytes32 personal_digest(std::string_view message) { return keccak256(personal_preimage(message)); }

}  // namespace farmesh::evm
