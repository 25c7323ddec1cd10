// Whoever holds a wallet's key: this process, or a program, device or service outside it.
//
// A signer gets the whole preimage and not only its hash, so that one outside can read what it is
// asked to sign and refuse it by its own rules.
#pragma once

#include <memory>

#include "evm/signature.hpp"

namespace farmesh::evm {

enum class Signable : std::uint8_t { personal_message, typed_data, transaction };

class Signer {
 public:
  virtual ~Signer() = default;
  virtual Address address() const = 0;
  /// Signs keccak256(preimage). May block. What comes from outside is not trusted: see below.
  virtual Result<Signature> sign_preimage(Signable kind, BytesView preimage) = 0;
};

/// A signer that holds the key itself.
class KeySigner final : public Signer {
 public:
  explicit KeySigner(PrivateKey key) : key_(std::move(key)) {}
  Address address() const override { return key_.address(); }
  Result<Signature> sign_preimage(Signable kind, BytesView preimage) override;

 private:
  PrivateKey key_;
};

/// Asks `signer` and checks that its answer is its own address's signature. Fails with
/// wallet_signature_invalid, or as the signer does.
Result<Signature> sign_checked(Signer& signer, Signable kind, BytesView preimage);

}  // namespace farmesh::evm
