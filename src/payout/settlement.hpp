// One batch as the escrow takes it: who is charged, who is paid, and the bytes of the call.
//
// Pure functions over contracts/src/IInferenceEscrow.sol. The batch's id on chain is its UUID's 16
// bytes followed by 16 of zero, so that anybody can find one by the other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/money.hpp>

#include "evm/abi.hpp"
#include "evm/address.hpp"
#include "evm/bytes.hpp"
#include "evm/merkle.hpp"
#include "evm/u256.hpp"
#include "ledger/payment_batches.hpp"
#include "ledger/payout_book.hpp"

namespace farmesh::payout {

struct Part {
  evm::Address who;
  Far amount;
  friend bool operator==(const Part&, const Part&) = default;
};

/// What a user pays: on credit where there is no request, else by its reservation, which it closes.
struct Charge {
  evm::Address who;
  Far amount;
  evm::Bytes32 request{};
  friend bool operator==(const Charge&, const Charge&) = default;
};

enum class Method : std::uint8_t { direct, merkle };
std::string_view name(Method method) noexcept;

struct Settlement {
  std::string batch_id;  // a UUID
  Method method = Method::direct;
  std::vector<Charge> charges;  // by address
  std::vector<Part> payments;   // by address; one of each
  Far fee;
  std::optional<Part> to_operator;  // a part of the payments that is no node's
};

/// `batch_id` is a UUID.
evm::Bytes32 batch_key(std::string_view batch_id);

/// Charges minus payments minus fee; zero for one that the escrow takes. Nothing when sums
/// overflow.
std::optional<Far> imbalance(const Settlement& settlement);

/// The call's data. Fails with invalid_argument when the sums do not meet.
Result<evm::Bytes> encode_settlement(const Settlement& settlement, std::uint64_t chain_id,
                                     const evm::Address& escrow);

/// What a call's data charges and pays. A tree has no payments, only their sum.
struct DecodedSettlement {
  evm::Bytes32 key{};
  Method method = Method::direct;
  std::vector<Charge> charges;
  std::vector<Part> payments;
  evm::Bytes32 root{};
  Far total;  // of the payments
  Far fee;
};
/// Fails with evm_encoding_invalid for another call, and for amounts that are not whole units.
Result<DecodedSettlement> decode_settlement(evm::BytesView data);

/// The payments of a batch of the ledger, one an address; neither charges nor fee. Fails with
/// wallet_invalid, or amount_invalid when a sum is too large.
Result<Settlement> payments_of(const ledger::PaymentBatch& batch);
/// Adds what the operator is paid, beside what his address may earn as a node's.
Result<void> add_operator(Settlement& settlement, const Part& part);
/// The payments of a batch as its transaction makes them, of those that were written down for it.
Result<Settlement> sent_payments(const ledger::PaymentBatch& batch,
                                 const std::vector<ledger::StoredTransaction>& sent);

/// The leaf of a batch's tree that pays `payment`.
Result<evm::Bytes32> payment_leaf(const evm::Bytes32& key, std::uint64_t index, const Part& payment,
                                  std::uint64_t chain_id, const evm::Address& escrow);
/// The tree whose root a batch funds: leaf i pays payments[i].
Result<evm::MerkleTree> payment_tree(const Settlement& settlement, std::uint64_t chain_id,
                                     const evm::Address& escrow);

/// claim() for some of the tree's leaves.
Result<evm::Bytes> encode_claims(const Settlement& settlement, const evm::MerkleTree& tree,
                                 const std::vector<std::size_t>& leaves);

/// Charges as all of the escrow's calls take them: (address user, bytes32 requestId, uint256
/// amount)[].
evm::AbiValue::Members charge_values(const std::vector<Charge>& charges);

/// Gas that settling costs, from the contracts' measurements; for choosing, not for sending.
std::uint64_t expected_gas(Method method, std::size_t payments, std::size_t charges) noexcept;

}  // namespace farmesh::payout
