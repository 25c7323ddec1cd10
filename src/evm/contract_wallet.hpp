// Who has signed: a wallet's own key, or a wallet that is a contract and says so (ERC-1271).
//
// A contract's answer is its chain's, now: another block may say otherwise, and the escrow asks
// again when it opens what was signed.
#pragma once

#include <cstddef>
#include <functional>

#include "evm/address.hpp"
#include "evm/bytes.hpp"
#include "evm/rpc.hpp"

namespace farmesh::evm {

/// Most bytes of a signature: of a contract with several owners it holds theirs, one by one.
inline constexpr std::size_t kMaxSignatureBytes = 1'024;

/// Whether the contract at `wallet` accepts `signature` for `digest`: false where there is no
/// contract, where it reverts, and where it answers anything but ERC-1271's word. Fails as Rpc
/// does.
Result<bool> contract_accepts(Rpc& rpc, const Address& wallet, const Bytes32& digest,
                              BytesView signature);

/// contract_accepts() of somebody's chain.
using ContractWallets =
    std::function<Result<bool>(const Address& wallet, const Bytes32& digest, BytesView signature)>;

/// For callers on any thread. One question at a time: the endpoints may take long, and strangers'
/// contracts are asked, so whoever comes meanwhile gets `busy`.
ContractWallets contract_wallets(RpcOptions options, HttpPost post);

/// Whether `wallet` has signed `digest`: by its own key, which asks nobody, else by its contract,
/// where `contracts` can be asked. Fails as they do.
Result<bool> has_signed(const Address& wallet, const Bytes32& digest, BytesView signature,
                        const ContractWallets& contracts);

}  // namespace farmesh::evm
