// Holds the ledger against the chain, and tells every difference.
#pragma once

#include <memory>

#include <farmesh/ledger.hpp>

#include "payout/chain.hpp"

namespace farmesh::ledger {
class Store;
}

namespace farmesh::payout {

/// Each confirmed batch: its transaction stands in the chain, was made for it, and pays what its
/// contributions add up to, to whom they are owed, charged to whom the ledger says.
Result<void> check_payments(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                            AuditReport& report);

/// Each user's balance in the escrow: what came in, less what left and what batches charged. And
/// each deposit: credited, once, with its amount. The escrow stands since `start_block`.
Result<void> check_balances(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                            std::uint64_t start_block, AuditReport& report);

/// What a settled transaction gave `who` in the batch `key`: sent to him, or kept for him where the
/// token refused him.
Far paid_to(const evm::Receipt& receipt, const evm::Address& escrow, const evm::Bytes32& key,
            const evm::Address& who);

}  // namespace farmesh::payout
