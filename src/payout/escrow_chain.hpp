// The escrow on a real chain, through JSON-RPC endpoints.
#pragma once

#include <memory>

#include "evm/rpc.hpp"
#include "payout/chain.hpp"

namespace farmesh::payout {

struct EscrowChainOptions {
  evm::RpcOptions rpc;
  evm::Address escrow;
  evm::U256 priority_floor = 1;  // wei per gas, at least offered
};

/// Checks that there is a contract at the address. Fails with config_invalid, or as evm::Rpc does.
Result<std::unique_ptr<Chain>> open_escrow_chain(EscrowChainOptions options, evm::HttpPost post);

}  // namespace farmesh::payout
