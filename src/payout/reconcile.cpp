#include "payout/reconcile.hpp"

#include <algorithm>
#include <map>
#include <string>

#include "evm/abi.hpp"
#include "evm/transaction.hpp"
#include "evm/wei.hpp"
#include "ledger/chain_book.hpp"
#include "ledger/payment_batches.hpp"
#include "ledger/payout_book.hpp"
#include "ledger/store.hpp"
#include "payout/deposits.hpp"
#include "payout/reservation.hpp"
#include "payout/settlement.hpp"

namespace farmesh::payout {
namespace {

using Amounts = std::map<evm::Address, Far>;

constexpr std::string_view kBatches = "far_payment_batches";

void find(AuditReport& report, std::string_view table, const std::string& row, std::string what) {
  report.findings.push_back({std::string(table), row, std::move(what)});
}

bool add(Amounts& amounts, const evm::Address& who, Far amount) {
  const std::optional<Far> sum = amounts[who].plus(amount);
  if (sum) amounts[who] = *sum;
  return sum.has_value();
}

/// What the rows say that the batch's transaction pays, by address.
Amounts owed_by(const ledger::PaymentBatch& batch, const ledger::StoredTransaction& sent,
                AuditReport& report) {
  Amounts owed;
  if (!sent.operator_wallet.empty()) {
    const auto wallet = evm::parse_address(sent.operator_wallet);
    if (!wallet || !add(owed, *wallet, sent.operator_pay)) {
      find(report, "far_payment_transactions", sent.tx_hash, "cannot pay its operator");
    }
  }
  for (const ledger::PaymentItem& item : batch.items) {
    const auto address = evm::parse_address(item.wallet);
    if (!address || !add(owed, *address, item.amount)) {
      find(report, "far_payment_items", item.origin_batch + " " + item.wallet, "cannot be paid");
    }
  }
  return owed;
}

void compare(const Amounts& is, const Amounts& should, const ledger::PaymentBatch& batch,
             const std::string& verb, AuditReport& report) {
  for (const auto& [who, amount] : should) {
    const auto found = is.find(who);
    const Far there = found == is.end() ? Far() : found->second;
    if (there == amount) continue;
    find(report, kBatches, batch.id,
         "the chain " + verb + " " + evm::to_string(who) + " " + there.to_string() +
             " and the ledger " + amount.to_string());
  }
  for (const auto& [who, amount] : is) {
    if (should.contains(who)) continue;
    find(report, kBatches, batch.id,
         "the chain " + verb + " " + evm::to_string(who) + " " + amount.to_string() +
             " and the ledger nothing");
  }
}

/// Paid(batchId, provider, amount) and PaymentDeferred, as the transaction left them.
Amounts events_of(const evm::Receipt& receipt, const evm::Address& escrow,
                  const evm::Bytes32& key) {
  const evm::Bytes32 paid = evm::event_topic("Paid(bytes32,address,uint256)");
  const evm::Bytes32 deferred = evm::event_topic("PaymentDeferred(bytes32,address,uint256)");
  Amounts amounts;
  for (const evm::Log& log : receipt.logs) {
    if (log.address != escrow || log.topics.size() != 3 || log.topics[1] != key) continue;
    if (log.topics[0] != paid && log.topics[0] != deferred) continue;
    const auto value = evm::decode_abi("(uint256)", log.data);
    const auto amount = value ? evm::from_wei((*value)[0].number()) : value.error();
    evm::Address who;
    std::copy_n(log.topics[2].end() - 20, 20, who.bytes.begin());
    if (amount) add(amounts, who, amount->amount);
  }
  return amounts;
}

/// Whom the call charged, and for what: on credit, or by a reservation, which is a row of its own.
Result<void> check_charges(const ledger::PaymentBatch& batch, const DecodedSettlement& call,
                           ledger::PayoutBook& book, AuditReport& report) {
  Amounts charged, noted;
  std::map<std::string, Far> charged_of, noted_of;  // by reservation
  for (const Charge& charge : call.charges) {
    if (charge.request == evm::Bytes32{}) {
      add(charged, charge.who, charge.amount);
    } else {
      charged_of[evm::to_hex0x(charge.request) + " of " + evm::to_lower_case(charge.who)] =
          charge.amount;
    }
  }
  const auto rows = book.charges(batch.id);
  if (!rows) return rows.error();
  for (const ledger::UserCharge& charge : *rows) {
    if (!charge.request_key.empty()) {
      noted_of[charge.request_key + " of " + charge.account] = charge.amount;
    } else if (const auto who = evm::parse_address(charge.account)) {
      add(noted, *who, charge.amount);
    }
  }
  compare(charged, noted, batch, "charged", report);
  if (charged_of != noted_of) {
    find(report, "far_payment_charges", batch.id, "the chain closed other reservations");
  }
  return {};
}

Result<void> check_call(const ledger::PaymentBatch& batch, const ledger::StoredTransaction& sent,
                        const evm::Receipt& receipt, const DecodedSettlement& call,
                        ledger::PayoutBook& book, Chain& chain, AuditReport& report) {
  const Amounts owed = owed_by(batch, sent, report);
  if (call.key != batch_key(batch.id)) find(report, kBatches, batch.id, "another batch's call");
  if (call.method == Method::direct) {
    compare(events_of(receipt, chain.escrow(), call.key), owed, batch, "paid", report);
  } else {
    Settlement settlement{batch.id, Method::merkle, {}, {}, {}, {}};
    for (const auto& [who, amount] : owed) settlement.payments.push_back({who, amount});
    const auto tree = payment_tree(settlement, chain.id(), chain.escrow());
    const auto on_chain = chain.batch(call.key);
    if (!on_chain) return on_chain.error();
    if (!tree || tree->root() != call.root || on_chain->root != call.root) {
      find(report, kBatches, batch.id, "the funded tree is not that of the ledger's payments");
    }
  }
  return check_charges(batch, call, book, report);
}

Result<void> check_batch(const ledger::PaymentBatch& batch, ledger::PayoutBook& book, Chain& chain,
                         AuditReport& report) {
  const auto sent = book.transactions(batch.id);
  if (!sent) return sent.error();
  const auto stored = std::ranges::find(*sent, batch.tx_hash, &ledger::StoredTransaction::tx_hash);
  if (stored == sent->end()) {
    find(report, kBatches, batch.id, "its transaction was never written down");
    return {};
  }
  const auto transaction = evm::decode_transaction(stored->raw);
  const auto call =
      transaction ? decode_settlement(transaction->transaction.data) : transaction.error();
  if (!call || evm::to_hex0x(transaction->hash) != batch.tx_hash) {
    find(report, "far_payment_transactions", batch.tx_hash, "is not what was sent");
    return {};
  }
  const auto receipt = chain.receipt(transaction->hash);
  if (!receipt) return receipt.error();
  if (!*receipt || !(*receipt)->succeeded) {
    find(report, kBatches, batch.id, "the chain does not have " + batch.tx_hash);
    return {};
  }
  return check_call(batch, *stored, **receipt, *call, book, chain, report);
}

/// Rows that are paid by another transaction than their batch's.
Result<void> check_hashes(ledger::Store& store, AuditReport& report) {
  return store.transact([&](ledger::Database& db) -> Result<void> {
    const auto rows = db.query<std::int64_t>(
        "SELECT c.id FROM far_session_contributions c JOIN far_payment_items i ON i.batch_id = "
        "c.batch_id AND i.wallet_address = c.wallet_address JOIN far_payment_batches b ON b.id = "
        "i.paying_batch_id WHERE c.paid_at IS NOT NULL AND (b.status <> 'confirmed' OR "
        "c.payment_tx_hash <> b.tx_hash) ORDER BY c.id LIMIT 1000");
    if (!rows) return rows.error();
    for (const auto& [id] : *rows) {
      find(report, "far_session_contributions", std::to_string(id),
           "is paid by another transaction than its batch");
    }
    return {};
  });
}

/// Every entry of credit that a movement should have made.
Result<void> check_entries(ledger::Store& store, const std::string& chain, AuditReport& report) {
  return store.transact([&](ledger::Database& db) -> Result<void> {
    const auto rows = db.query<std::string, std::string, std::string, std::optional<Far>>(
        "SELECT m.reference, m.account, m.amount_wei, (SELECT sum({e.amount_far}) FROM "
        "far_credit_entries e WHERE e.kind = 'deposit' AND e.account = m.account AND (e.reference "
        "= m.reference OR e.reference LIKE m.reference || '@%')) FROM far_chain_movements m WHERE "
        "m.chain = ?1 AND m.kind = 'deposit' AND m.dropped_at IS NULL AND NOT EXISTS (SELECT 1 "
        "FROM far_credit_entries d WHERE d.account = m.account AND d.reference LIKE 'dropped ' || "
        "m.reference || '@%')",
        {chain});
    if (!rows) return rows.error();
    for (const auto& [reference, account, wei, credited] : *rows) {
      const auto value = evm::U256::parse_decimal(wei);
      const auto amount = value ? evm::from_wei(*value) : value.error();
      const Far there = credited.value_or(Far());
      if (amount && amount->amount == there) continue;
      find(report, "far_credit_entries", reference,
           account + " was credited " + there.to_string() + " for a deposit of " +
               (amount ? amount->amount.to_string() : wei));
    }
    return {};
  });
}

/// Wei of each user that should be in the escrow, and that he wants back.
class Expected {
 public:
  bool take(const evm::Address& user, ledger::MovementKind kind, const evm::U256& wei) {
    follow_request(requested_[user], kind, wei);
    switch (kind) {
      case ledger::MovementKind::deposit: return in(user, wei);
      case ledger::MovementKind::withdrawal: return out(user, wei);
      case ledger::MovementKind::request: break;
    }
    return true;
  }
  evm::U256 requested(const evm::Address& user) const {
    const auto found = requested_.find(user);
    return found == requested_.end() ? evm::U256() : found->second;
  }
  bool in(const evm::Address& user, const evm::U256& wei) {
    const auto sum = checked_add(balances_[user].first, wei);
    if (sum) balances_[user].first = *sum;
    return sum.has_value();
  }
  bool out(const evm::Address& user, const evm::U256& wei) {
    const auto sum = checked_add(balances_[user].second, wei);
    if (sum) balances_[user].second = *sum;
    return sum.has_value();
  }
  const std::map<evm::Address, std::pair<evm::U256, evm::U256>>& all() const { return balances_; }

 private:
  std::map<evm::Address, std::pair<evm::U256, evm::U256>> balances_;
  std::map<evm::Address, evm::U256> requested_;
};

/// What the escrow keeps for single requests is in nobody's balance.
Result<void> add_holds(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                       Expected& expected) {
  const auto live = ledger::EscrowReservations(store).live();
  if (!live) return live.error();
  for (const ledger::EscrowReservation& one : *live) {
    const auto user = evm::parse_address(one.account);
    if (!user) continue;
    const auto hold = chain.hold(*user, request_key(one.request_id));
    if (!hold) return hold.error();
    if (!expected.out(*user, hold->amount)) {
      return Error{Errc::ledger_damaged, "reservations beyond 256 bits"};
    }
  }
  return {};
}

Result<void> add_charges(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                         Expected& expected) {
  ledger::PaymentBatches batches(store);
  ledger::PayoutBook book(store);
  std::vector<std::string> ids;
  const auto confirmed = batches.confirmed_since(LedgerTime());
  if (!confirmed) return confirmed.error();
  for (const ledger::ConfirmedBatch& batch : *confirmed) ids.push_back(batch.id);
  const auto open = batches.open_batches();
  if (!open) return open.error();
  for (const ledger::PaymentBatch& batch : *open) {  // settled, not deep enough yet
    const auto on_chain = chain.batch(batch_key(batch.id));
    if (!on_chain) return on_chain.error();
    if (on_chain->settled_block != 0) ids.push_back(batch.id);
  }
  for (const std::string& id : ids) {
    const auto charges = book.charges(id);
    if (!charges) return charges.error();
    for (const ledger::UserCharge& charge : *charges) {
      const auto who = evm::parse_address(charge.account);
      if (who && !expected.out(*who, evm::to_wei(charge.amount))) {
        return Error{Errc::ledger_damaged, "charges beyond 256 bits"};
      }
    }
  }
  return {};
}

Result<void> add_movements(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                           std::uint64_t start_block, Expected& expected) {
  ledger::ChainBook book(store);
  const std::string name = chain_name(chain.id(), chain.escrow());
  const auto known = book.movements(name, 0);
  if (!known) return known.error();
  for (const ledger::ChainMovement& movement : *known) {
    const auto who = evm::parse_address(movement.account);
    const auto wei = evm::U256::parse_decimal(movement.amount_wei);
    if (!who || !wei || !expected.take(*who, movement.kind, *wei)) {
      return Error{Errc::ledger_damaged, "a movement that cannot be: " + movement.reference};
    }
  }
  // What the ledger has not read yet is no difference.
  const auto cursor = book.cursor(name);
  if (!cursor) return cursor.error();
  const auto head = chain.head();
  if (!head) return head.error();
  const std::uint64_t from = *cursor ? (*cursor)->block_number + 1 : start_block;
  if (from > *head) return {};
  const auto fresh = chain.movements(from, *head);
  if (!fresh) return fresh.error();
  for (const Movement& movement : *fresh) {
    if (!expected.take(movement.user, movement.kind, movement.amount)) {
      return Error{Errc::chain_answer_malformed, "movements beyond 256 bits"};
    }
  }
  return {};
}

}  // namespace

Result<void> check_payments(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                            AuditReport& report) {
  ledger::PaymentBatches batches(store);
  ledger::PayoutBook book(store);
  const Result<void> hashes = check_hashes(*store, report);
  if (!hashes) return hashes;
  const auto confirmed = batches.confirmed_since(LedgerTime());
  if (!confirmed) return confirmed.error();
  for (const ledger::ConfirmedBatch& one : *confirmed) {
    const auto batch = batches.batch(one.id);
    if (!batch) return batch.error();
    const Result<void> checked = check_batch(*batch, book, chain, report);
    if (!checked) return checked;
  }
  return {};
}

Result<void> check_balances(const std::shared_ptr<ledger::Store>& store, Chain& chain,
                            std::uint64_t start_block, AuditReport& report) {
  Expected expected;
  Result<void> step = check_entries(*store, chain_name(chain.id(), chain.escrow()), report);
  if (step) step = add_movements(store, chain, start_block, expected);
  if (step) step = add_charges(store, chain, expected);
  if (step) step = add_holds(store, chain, expected);
  if (!step) return step;
  for (const auto& [user, sums] : expected.all()) {
    const auto should = checked_subtract(sums.first, sums.second);
    const auto account = chain.account(user);
    if (!account) return account.error();
    if (account->requested != expected.requested(user)) {
      find(report, "far_credit_accounts", evm::to_lower_case(user),
           "wants " + account->requested.to_decimal() + " back from the escrow, and should want " +
               expected.requested(user).to_decimal() + " (1e-18 $FAR)");
    }
    if (should && *should == account->balance) continue;
    find(report, "far_credit_accounts", evm::to_lower_case(user),
         "the escrow holds " + account->balance.to_decimal() + " and should hold " +
             (should ? should->to_decimal()
                     : sums.first.to_decimal() + " less " + sums.second.to_decimal()) +
             " (1e-18 $FAR)");
  }
  return {};
}

Far paid_to(const evm::Receipt& receipt, const evm::Address& escrow, const evm::Bytes32& key,
            const evm::Address& who) {
  const Amounts amounts = events_of(receipt, escrow, key);
  const auto found = amounts.find(who);
  return found == amounts.end() ? Far() : found->second;
}

}  // namespace farmesh::payout
