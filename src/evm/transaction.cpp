#include "evm/transaction.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "evm/keccak.hpp"
#include "evm/rlp.hpp"

namespace farmesh::evm {
namespace {

constexpr std::uint8_t kEip1559 = 2;
constexpr std::uint64_t kEip155Base = 35;  // v = base + 2 · chain id + parity
// So that v fits 64 bits; the largest chain ids in use have 10 digits.
constexpr std::uint64_t kMaxChainId = (~std::uint64_t{0} - kEip155Base - 1) / 2;

Error malformed(const char* why) { return {Errc::evm_encoding_invalid, why}; }

BytesView view_of_target(const std::optional<Address>& to) {
  return to ? BytesView(to->bytes) : BytesView();
}

void write_legacy(RlpWriter& out, const Transaction& tx) {
  out.number(tx.nonce).number(tx.max_fee_per_gas).number(tx.gas_limit);
  out.bytes(view_of_target(tx.to)).number(tx.value).bytes(tx.data);
}

void write_eip1559(RlpWriter& out, const Transaction& tx) {
  out.number(tx.chain_id).number(tx.nonce);
  out.number(tx.max_priority_fee_per_gas).number(tx.max_fee_per_gas).number(tx.gas_limit);
  out.bytes(view_of_target(tx.to)).number(tx.value).bytes(tx.data);
  RlpWriter accesses;
  for (const Transaction::Access& access : tx.access_list) {
    RlpWriter slots;
    for (const Bytes32& slot : access.slots) slots.bytes(slot);
    RlpWriter entry;
    entry.bytes(access.address.bytes).list(slots);
    accesses.list(entry);
  }
  out.list(accesses);
}

Bytes typed(const RlpWriter& fields) {
  Bytes bytes{kEip1559};
  append(bytes, fields.as_list());
  return bytes;
}

Bytes encode_signed(const Transaction& tx, const Signature& signature) {
  RlpWriter out;
  const U256 r = U256::from_big_endian(signature.r);
  const U256 s = U256::from_big_endian(signature.s);
  if (tx.kind == Transaction::Kind::legacy) {
    write_legacy(out, tx);
    out.number(kEip155Base + 2 * tx.chain_id + signature.y_parity).number(r).number(s);
    return out.as_list();
  }
  write_eip1559(out, tx);
  out.number(signature.y_parity).number(r).number(s);
  return typed(out);
}

/// Takes the fields of a list one after another; the first that is wrong is remembered.
class FieldReader {
 public:
  explicit FieldReader(const RlpItem& list) : list_(list) {}

  U256 number() {
    const RlpItem* item = next();
    const Result<U256> value = item != nullptr ? item->number() : Result<U256>(U256());
    if (!value) ok_ = false;
    return value ? *value : U256();
  }
  std::uint64_t number64() {
    const std::optional<std::uint64_t> value = number().to_uint64();
    if (!value) ok_ = false;
    return value.value_or(0);
  }
  BytesView bytes() {
    const RlpItem* item = next();
    if (item == nullptr) return {};
    if (item->is_list) ok_ = false;
    return item->bytes;
  }
  template <std::size_t kSize>
  std::array<std::uint8_t, kSize> fixed() {
    const BytesView view = bytes();
    std::array<std::uint8_t, kSize> copy{};
    if (view.size() == kSize) {
      std::ranges::copy(view, copy.begin());
    } else {
      ok_ = false;
    }
    return copy;
  }
  std::optional<Address> target() {
    if (at_ < list_.items.size() && !list_.items[at_].is_list && list_.items[at_].bytes.empty()) {
      ++at_;
      return std::nullopt;
    }
    return Address{fixed<20>()};
  }
  const RlpItem* list() {
    const RlpItem* item = next();
    if (item == nullptr || !item->is_list) ok_ = false;
    return ok_ ? item : nullptr;
  }
  void fail() { ok_ = false; }
  bool done() const noexcept { return at_ == list_.items.size(); }
  /// Everything was there, was right, and nothing is left.
  bool ok() const noexcept { return ok_ && done(); }

 private:
  const RlpItem* next() {
    if (at_ < list_.items.size()) return &list_.items[at_++];
    ok_ = false;
    return nullptr;
  }

  const RlpItem& list_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

std::vector<Transaction::Access> read_accesses(FieldReader& fields) {
  std::vector<Transaction::Access> accesses;
  const RlpItem* list = fields.list();
  if (list == nullptr) return accesses;
  for (const RlpItem& item : list->items) {
    FieldReader entry(item);
    Transaction::Access access;
    access.address.bytes = entry.fixed<20>();
    if (const RlpItem* slots = entry.list()) {
      FieldReader slot(*slots);
      while (!slot.done()) access.slots.push_back(slot.fixed<32>());
      if (!slot.ok()) fields.fail();
    }
    if (!entry.ok() || !item.is_list) fields.fail();
    accesses.push_back(std::move(access));
  }
  return accesses;
}

struct Unsigned {
  Transaction transaction;
  U256 v, r, s;
};

Unsigned read_legacy(FieldReader& fields) {
  Unsigned read;
  Transaction& tx = read.transaction;
  tx.kind = Transaction::Kind::legacy;
  tx.nonce = fields.number64();
  tx.max_fee_per_gas = fields.number();
  tx.gas_limit = fields.number64();
  tx.to = fields.target();
  tx.value = fields.number();
  const BytesView data = fields.bytes();
  tx.data.assign(data.begin(), data.end());
  const std::uint64_t v = fields.number64();
  if (v < kEip155Base) {
    fields.fail();  // without a chain id it could be replayed on any chain
  } else {
    tx.chain_id = (v - kEip155Base) / 2;
    read.v = (v - kEip155Base) % 2;
  }
  return read;
}

Unsigned read_eip1559(FieldReader& fields) {
  Unsigned read;
  Transaction& tx = read.transaction;
  tx.chain_id = fields.number64();
  tx.nonce = fields.number64();
  tx.max_priority_fee_per_gas = fields.number();
  tx.max_fee_per_gas = fields.number();
  tx.gas_limit = fields.number64();
  tx.to = fields.target();
  tx.value = fields.number();
  const BytesView data = fields.bytes();
  tx.data.assign(data.begin(), data.end());
  tx.access_list = read_accesses(fields);
  read.v = fields.number();
  return read;
}

Result<void> check(const Transaction& tx) {
  if (tx.chain_id == 0 || tx.chain_id > kMaxChainId) {
    return Error{Errc::invalid_argument, "a transaction needs a chain id"};
  }
  if (tx.kind == Transaction::Kind::legacy) {
    if (!tx.access_list.empty() || !tx.max_priority_fee_per_gas.is_zero()) {
      return Error{Errc::invalid_argument, "a legacy transaction has one gas price and no list"};
    }
  } else if (tx.max_priority_fee_per_gas > tx.max_fee_per_gas) {
    return Error{Errc::invalid_argument, "the priority fee is above the maximum fee"};
  }
  return {};
}

}  // namespace

Bytes signing_preimage(const Transaction& transaction) {
  RlpWriter out;
  if (transaction.kind == Transaction::Kind::legacy) {
    write_legacy(out, transaction);
    out.number(transaction.chain_id).number(0).number(0);
    return out.as_list();
  }
  write_eip1559(out, transaction);
  return typed(out);
}

Result<SignedTransaction> sign_transaction(const Transaction& transaction, Signer& signer) {
  if (const Result<void> checked = check(transaction); !checked) return checked.error();
  const Result<Signature> signature =
      sign_checked(signer, Signable::transaction, signing_preimage(transaction));
  if (!signature) return signature.error();
  SignedTransaction made{
      transaction, *signature, signer.address(), encode_signed(transaction, *signature), {}};
  if (made.raw.size() > kMaxTransactionBytes) {
    return Error{Errc::invalid_argument, "a transaction of more than 128 KiB"};
  }
  made.hash = keccak256(made.raw);
  return made;
}

Result<SignedTransaction> decode_transaction(BytesView raw) {
  if (raw.empty() || raw.size() > kMaxTransactionBytes) {
    return malformed("a transaction is empty or too large");
  }
  const bool is_typed = raw[0] < 0x80;
  if (is_typed && raw[0] != kEip1559) return malformed("a transaction of an unknown type");
  const Result<RlpItem> item = decode_rlp(is_typed ? raw.subspan(1) : raw);
  if (!item) return item.error();
  if (!item->is_list) return malformed("a transaction is a list");

  FieldReader fields(*item);
  Unsigned read = is_typed ? read_eip1559(fields) : read_legacy(fields);
  read.r = fields.number();
  read.s = fields.number();
  if (!fields.ok()) return malformed("a field of the transaction is missing, wrong or too many");
  if (read.v > U256(1)) return malformed("a transaction's parity is 0 or 1");
  if (const Result<void> checked = check(read.transaction); !checked) {
    return malformed("a transaction that cannot be");
  }

  SignedTransaction decoded;
  decoded.signature = {read.r.to_big_endian(), read.s.to_big_endian(),
                       static_cast<std::uint8_t>(*read.v.to_uint64())};
  const Result<Address> sender =
      recover(decoded.signature, keccak256(signing_preimage(read.transaction)));
  if (!sender) return sender.error();
  decoded.sender = *sender;
  decoded.transaction = std::move(read.transaction);
  decoded.raw.assign(raw.begin(), raw.end());
  decoded.hash = keccak256(raw);
  return decoded;
}

}  // namespace farmesh::evm
