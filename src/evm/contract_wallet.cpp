#include "evm/contract_wallet.hpp"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "evm/abi.hpp"
#include "evm/signature.hpp"

namespace farmesh::evm {
namespace {

constexpr std::string_view kQuestion = "isValidSignature(bytes32,bytes)";

/// ERC-1271's yes: a word with the question's selector, as the escrow reads it.
bool says_yes(BytesView answer) {
  Bytes32 yes{};
  std::ranges::copy(selector(kQuestion), yes.begin());
  return answer.size() >= yes.size() && std::ranges::equal(yes, answer.first(yes.size()));
}

}  // namespace

Result<bool> contract_accepts(Rpc& rpc, const Address& wallet, const Bytes32& digest,
                              BytesView signature) {
  if (signature.size() > kMaxSignatureBytes) return false;
  const Result<Bytes> code = rpc.code(wallet);
  if (!code) return code.error();
  if (code->empty()) return false;
  auto question = encode_call(kQuestion, {digest, Bytes(signature.begin(), signature.end())});
  if (!question) return question.error();
  const Result<Bytes> answer = rpc.call({std::nullopt, wallet, *std::move(question), {}});
  if (!answer && answer.error().code == Errc::call_reverted) return false;
  return answer ? Result<bool>(says_yes(*answer)) : answer.error();
}

ContractWallets contract_wallets(RpcOptions options, HttpPost post) {
  struct Shared {
    std::mutex mutex;
    Rpc rpc;
  };
  const auto shared =
      std::shared_ptr<Shared>(new Shared{{}, Rpc(std::move(options), std::move(post))});
  return
      [shared](const Address& wallet, const Bytes32& digest, BytesView signature) -> Result<bool> {
        const std::unique_lock lock(shared->mutex, std::try_to_lock);
        if (!lock) return Error{Errc::busy, "another contract wallet is being asked"};
        return contract_accepts(shared->rpc, wallet, digest, signature);
      };
}

Result<bool> has_signed(const Address& wallet, const Bytes32& digest, BytesView signature,
                        const ContractWallets& contracts) {
  if (const Result<Signature> own = Signature::from_bytes(signature)) {
    const Result<Address> signer = recover(*own, digest);
    if (signer && *signer == wallet) return true;
  }
  return contracts ? contracts(wallet, digest, signature) : Result<bool>(false);
}

}  // namespace farmesh::evm
