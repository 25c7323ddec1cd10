#include "payout/settlement.hpp"

#include <algorithm>
#include <map>

#include "base/assert.hpp"
#include "evm/abi.hpp"
#include "evm/wei.hpp"
#include "ledger/checks.hpp"

namespace farmesh::payout {
namespace {

constexpr std::string_view kDirect =
    "settleBatch(bytes32,(address,bytes32,uint256)[],(address,uint256)[],uint256)";
constexpr std::string_view kDirectArguments =
    "(bytes32,(address,bytes32,uint256)[],(address,uint256)[],uint256)";
constexpr std::string_view kTree =
    "settleBatchToRoot(bytes32,(address,bytes32,uint256)[],bytes32,uint256,uint256)";
constexpr std::string_view kTreeArguments =
    "(bytes32,(address,bytes32,uint256)[],bytes32,uint256,uint256)";
constexpr std::string_view kClaim = "claim((bytes32,uint256,address,uint256,bytes32[])[])";
constexpr std::string_view kLeaf = "(uint256,address,bytes32,uint256,address,uint256)";

// contracts/README.md, "What it costs": recipients who are paid for the first time.
constexpr std::uint64_t kBaseGas = 62'000;
constexpr std::uint64_t kGasOfPayment = 29'200;
constexpr std::uint64_t kGasOfCharge = 9'800;
constexpr std::uint64_t kGasOfTree = 30'000;

evm::AbiValue::Members payment_values(const std::vector<Part>& payments) {
  evm::AbiValue::Members all;
  for (const Part& payment : payments) {
    all.emplace_back(evm::AbiValue::Members{payment.who, evm::to_wei(payment.amount)});
  }
  return all;
}

template <class Parts>
std::optional<Far> sum(const Parts& parts) {
  Far total;
  for (const auto& part : parts) {
    const std::optional<Far> more = total.plus(part.amount);
    if (!more) return std::nullopt;
    total = *more;
  }
  return total;
}

Error foreign() { return {Errc::evm_encoding_invalid, "not a settlement of ours"}; }

Result<Far> whole_units(const evm::U256& wei) {
  const Result<evm::FarOfWei> amount = evm::from_wei(wei);
  if (!amount) return foreign();
  return amount->dust_wei == 0 ? Result<Far>(amount->amount) : foreign();
}

Result<std::vector<Charge>> read_charges(const evm::AbiValue& values) {
  std::vector<Charge> charges;
  for (const evm::AbiValue& value : values.members()) {
    const auto& fields = value.members();
    const Result<Far> amount = whole_units(fields[2].number());
    if (!amount) return amount.error();
    charges.push_back({fields[0].address(), *amount, fields[1].word()});
  }
  return charges;
}

}  // namespace

evm::AbiValue::Members charge_values(const std::vector<Charge>& charges) {
  evm::AbiValue::Members all;
  for (const Charge& charge : charges) {
    all.emplace_back(
        evm::AbiValue::Members{charge.who, charge.request, evm::to_wei(charge.amount)});
  }
  return all;
}

std::string_view name(Method method) noexcept {
  return method == Method::direct ? "direct" : "merkle";
}

evm::Bytes32 batch_key(std::string_view batch_id) {
  const auto uuid = ledger::uuid_bytes(batch_id);
  evm::Bytes32 key{};
  std::ranges::copy(uuid, key.begin());
  return key;
}

std::optional<Far> imbalance(const Settlement& settlement) {
  const std::optional<Far> charged = sum(settlement.charges);
  const std::optional<Far> paid = sum(settlement.payments);
  const std::optional<Far> out = paid ? paid->plus(settlement.fee) : std::nullopt;
  return charged && out ? charged->minus(*out) : std::nullopt;
}

Result<Settlement> payments_of(const ledger::PaymentBatch& batch) {
  Settlement settlement;
  settlement.batch_id = batch.id;
  settlement.method = Method::merkle;
  std::map<evm::Address, Far> payments;  // an amount that was held before joins its wallet's
  for (const ledger::PaymentItem& item : batch.items) {
    const auto address = evm::parse_address(item.wallet);
    if (!address) return address.error();
    const std::optional<Far> sum = payments[*address].plus(item.amount);
    if (!sum) return Error{Errc::amount_invalid, "a payment beyond the largest amount"};
    payments[*address] = *sum;
  }
  for (const auto& [who, amount] : payments) settlement.payments.push_back({who, amount});
  return settlement;
}

Result<void> add_operator(Settlement& settlement, const Part& part) {
  settlement.to_operator = part;
  const auto place = std::ranges::lower_bound(settlement.payments, part.who, {}, &Part::who);
  if (place == settlement.payments.end() || place->who != part.who) {
    settlement.payments.insert(place, part);
    return {};
  }
  const std::optional<Far> both = place->amount.plus(part.amount);
  if (!both) return Error{Errc::amount_invalid, "a payment beyond the largest amount"};
  place->amount = *both;
  return {};
}

Result<Settlement> sent_payments(const ledger::PaymentBatch& batch,
                                 const std::vector<ledger::StoredTransaction>& sent) {
  auto settlement = payments_of(batch);
  const auto stored = std::ranges::find(sent, batch.tx_hash, &ledger::StoredTransaction::tx_hash);
  if (!settlement || stored == sent.end() || stored->operator_wallet.empty()) return settlement;
  const auto wallet = evm::parse_address(stored->operator_wallet);
  if (!wallet) return wallet.error();
  const Result<void> added = add_operator(*settlement, {*wallet, stored->operator_pay});
  return added ? settlement : added.error();
}

Result<evm::Bytes32> payment_leaf(const evm::Bytes32& key, std::uint64_t index, const Part& payment,
                                  std::uint64_t chain_id, const evm::Address& escrow) {
  const Result<evm::AbiType> leaf_type = evm::AbiType::parse(kLeaf);
  FARMESH_ASSERT(leaf_type);
  return evm::merkle_leaf(*leaf_type,
                          {chain_id, escrow, key, index, payment.who, evm::to_wei(payment.amount)});
}

Result<evm::MerkleTree> payment_tree(const Settlement& settlement, std::uint64_t chain_id,
                                     const evm::Address& escrow) {
  if (settlement.payments.empty()) return Error{Errc::invalid_argument, "a tree without leaves"};
  const evm::Bytes32 key = batch_key(settlement.batch_id);
  std::vector<evm::Bytes32> leaves;
  for (std::size_t i = 0; i < settlement.payments.size(); ++i) {
    const auto leaf = payment_leaf(key, i, settlement.payments[i], chain_id, escrow);
    if (!leaf) return leaf.error();
    leaves.push_back(*leaf);
  }
  return evm::MerkleTree(std::move(leaves));
}

Result<evm::Bytes> encode_settlement(const Settlement& settlement, std::uint64_t chain_id,
                                     const evm::Address& escrow) {
  const std::optional<Far> difference = imbalance(settlement);
  if (!difference || !difference->is_zero()) {
    return Error{Errc::invalid_argument, "a batch's charges and payments do not meet"};
  }
  const evm::AbiValue key(batch_key(settlement.batch_id));
  const evm::AbiValue charges(charge_values(settlement.charges));
  const evm::AbiValue fee(evm::to_wei(settlement.fee));
  if (settlement.method == Method::direct) {
    return evm::encode_call(
        kDirect, {key, charges, evm::AbiValue(payment_values(settlement.payments)), fee});
  }
  const Result<evm::MerkleTree> tree = payment_tree(settlement, chain_id, escrow);
  if (!tree) return tree.error();
  const evm::AbiValue total(evm::to_wei(*sum(settlement.payments)));
  return evm::encode_call(kTree, {key, charges, evm::AbiValue(tree->root()), total, fee});
}

Result<DecodedSettlement> decode_settlement(evm::BytesView data) {
  if (data.size() < 4) return foreign();
  const evm::Selector which = {data[0], data[1], data[2], data[3]};
  DecodedSettlement decoded;
  if (which == evm::selector(kDirect)) {
    decoded.method = Method::direct;
  } else if (which == evm::selector(kTree)) {
    decoded.method = Method::merkle;
  } else {
    return foreign();
  }
  const bool direct = decoded.method == Method::direct;
  const auto values = evm::decode_abi(direct ? kDirectArguments : kTreeArguments, data.subspan(4));
  if (!values) return values.error();
  decoded.key = (*values)[0].word();
  auto charges = read_charges((*values)[1]);
  if (!charges) return charges.error();
  decoded.charges = std::move(*charges);
  const Result<Far> fee = whole_units(values->back().number());
  if (!fee) return fee.error();
  decoded.fee = *fee;
  if (!direct) {
    decoded.root = (*values)[2].word();
    const Result<Far> total = whole_units((*values)[3].number());
    if (!total) return total.error();
    decoded.total = *total;
    return decoded;
  }
  for (const evm::AbiValue& value : (*values)[2].members()) {
    const Result<Far> amount = whole_units(value.members()[1].number());
    if (!amount) return amount.error();
    decoded.payments.push_back({value.members()[0].address(), *amount});
  }
  const std::optional<Far> total = sum(decoded.payments);
  if (!total) return foreign();
  decoded.total = *total;
  return decoded;
}

Result<evm::Bytes> encode_claims(const Settlement& settlement, const evm::MerkleTree& tree,
                                 const std::vector<std::size_t>& leaves) {
  evm::AbiValue::Members claims;
  for (const std::size_t leaf : leaves) {
    FARMESH_ASSERT(leaf < settlement.payments.size());
    evm::AbiValue::Members proof;
    for (const evm::Bytes32& hash : tree.proof(leaf)) proof.emplace_back(hash);
    const Part& payment = settlement.payments[leaf];
    claims.emplace_back(evm::AbiValue::Members{batch_key(settlement.batch_id), std::uint64_t{leaf},
                                               payment.who, evm::to_wei(payment.amount),
                                               evm::AbiValue(std::move(proof))});
  }
  return evm::encode_call(kClaim, {evm::AbiValue(std::move(claims))});
}

std::uint64_t expected_gas(Method method, std::size_t payments, std::size_t charges) noexcept {
  const std::uint64_t fixed = kBaseGas + kGasOfCharge * charges;
  return method == Method::direct ? fixed + kGasOfPayment * payments : fixed + kGasOfTree;
}

}  // namespace farmesh::payout
