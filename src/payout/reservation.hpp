// A reservation of the escrow: what its user signs, and the calls that open, fix and return it.
//
// Pure functions over contracts/src/IInferenceEscrow.sol.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "evm/contract_wallet.hpp"
#include "evm/typed_data.hpp"
#include "ledger/escrow_reservations.hpp"
#include "payout/settlement.hpp"

namespace farmesh::payout {

/// The escrow knows a request by keccak256 of its id.
evm::Bytes32 request_key(std::string_view request_id);

/// What the user's wallet signs, as EIP-712. The amount is what the request may cost at most.
evm::Reservation to_sign(const ledger::EscrowReservation& reservation, const evm::Address& user);

/// The same as eth_signTypedData_v4 takes it, for this escrow: JSON on one line. Numbers are text,
/// because JSON's have 53 bits in a browser.
std::string typed_data_json(const evm::Reservation& terms, std::uint64_t chain_id,
                            const evm::Address& escrow);

/// From now on; the escrow takes no deadline beyond, and opening takes a while.
inline constexpr std::chrono::minutes kShortestReservation{5};
inline constexpr std::chrono::days kLongestReservation{30};

/// Whether the account has signed it for this escrow: by its own key, or as a contract does, where
/// `contracts` can be asked. Fails with wallet_invalid, wallet_signature_invalid, or as they do.
Result<void> check_signature(const ledger::EscrowReservation& reservation, std::uint64_t chain_id,
                             const evm::Address& escrow,
                             const evm::ContractWallets& contracts = {});

// The calls' data; each fails with wallet_invalid where an account is no address.
Result<evm::Bytes> encode_open(const ledger::EscrowReservation& reservation);
Result<evm::Bytes> encode_authorize(const std::vector<ledger::EscrowReservation>& served);
/// A batch that charges reservations nothing, which returns them, and pays nobody.
Result<evm::Bytes> encode_refund(const std::vector<ledger::EscrowReservation>& unused);
Result<evm::Bytes> encode_reclaim(const ledger::EscrowReservation& expired);

}  // namespace farmesh::payout
