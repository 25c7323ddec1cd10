// Transactions: EIP-1559, and the older form with the chain id of EIP-155.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "evm/address.hpp"
#include "evm/signer.hpp"
#include "evm/u256.hpp"

namespace farmesh::evm {

struct Transaction {
  enum class Kind : std::uint8_t { legacy, eip1559 };
  struct Access {
    Address address;
    std::vector<Bytes32> slots;
    friend bool operator==(const Access&, const Access&) = default;
  };

  Kind kind = Kind::eip1559;
  std::uint64_t chain_id = 0;
  std::uint64_t nonce = 0;
  std::uint64_t gas_limit = 0;
  U256 max_fee_per_gas;           // wei; the gas price of a legacy transaction
  U256 max_priority_fee_per_gas;  // wei; eip1559 only
  std::optional<Address> to;      // nothing: creates a contract
  U256 value;                     // wei
  Bytes data;
  std::vector<Access> access_list;  // eip1559 only

  friend bool operator==(const Transaction&, const Transaction&) = default;
};

struct SignedTransaction {
  Transaction transaction;
  Signature signature;
  Address sender;
  Bytes raw;       // what eth_sendRawTransaction takes
  Bytes32 hash{};  // the transaction hash
};

inline constexpr std::size_t kMaxTransactionBytes = 128 * 1024;  // as the nodes' pools have it

/// What the sender signs the hash of.
Bytes signing_preimage(const Transaction& transaction);

/// Fails with invalid_argument (no chain id, priority above the maximum fee, too large), or as the
/// signer does.
Result<SignedTransaction> sign_transaction(const Transaction& transaction, Signer& signer);

/// A signed transaction of either kind, with its sender recovered; legacy ones without a chain id
/// are refused. Fails with evm_encoding_invalid, wallet_signature_invalid.
Result<SignedTransaction> decode_transaction(BytesView raw);

}  // namespace farmesh::evm
