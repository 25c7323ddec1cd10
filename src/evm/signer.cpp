#include "evm/signer.hpp"

#include "evm/keccak.hpp"

namespace farmesh::evm {

Result<Signature> KeySigner::sign_preimage(Signable /*kind*/, BytesView preimage) {
  return sign(key_, keccak256(preimage));
}

Result<Signature> sign_checked(Signer& signer, Signable kind, BytesView preimage) {
  Result<Signature> signature = signer.sign_preimage(kind, preimage);
  if (!signature) return signature;
  const Result<Address> by = recover(*signature, keccak256(preimage));
  if (!by) return by.error();
  if (*by != signer.address()) {
    return Error{Errc::wallet_signature_invalid, "the signer answered for " + to_string(*by) +
                                                     " instead of " + to_string(signer.address())};
  }
  return signature;
}

}  // namespace farmesh::evm
