// A reservation of the escrow: what its user signs, and the calls that open, fix and return it.
//
// Pure functions over contracts/src/IInferenceEscrow.sol.
#pragma once

#include <string_view>
#include <vector>

#include "evm/typed_data.hpp"
#include "ledger/escrow_reservations.hpp"
#include "payout/settlement.hpp"

namespace farmesh::payout {

/// The escrow knows a request by keccak256 of its id.
evm::Bytes32 request_key(std::string_view request_id);

/// What the user's wallet signs, as EIP-712. The amount is what the request may cost at most.
evm::Reservation to_sign(const ledger::EscrowReservation& reservation, const evm::Address& user);

/// Whether the account's own key has signed it for this escrow. Contract wallets sign otherwise: of
/// those the escrow knows. Fails with wallet_invalid, wallet_signature_invalid.
Result<void> check_signature(const ledger::EscrowReservation& reservation, std::uint64_t chain_id,
                             const evm::Address& escrow);

// The calls' data; each fails with wallet_invalid where an account is no address.
Result<evm::Bytes> encode_open(const ledger::EscrowReservation& reservation);
Result<evm::Bytes> encode_authorize(const std::vector<ledger::EscrowReservation>& served);
/// A batch that charges reservations nothing, which returns them, and pays nobody.
Result<evm::Bytes> encode_refund(const std::vector<ledger::EscrowReservation>& unused);
Result<evm::Bytes> encode_reclaim(const ledger::EscrowReservation& expired);

}  // namespace farmesh::payout
