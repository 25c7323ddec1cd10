#include "cli/ledger_statement.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <farmesh/ledger.hpp>

#include "base/digest.hpp"
#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/ledger.hpp"
#include "evm/transaction.hpp"
#include "ledger/database.hpp"
#include "ledger/payment_batches.hpp"
#include "ledger/payout_book.hpp"
#include "ledger/statement.hpp"
#include "ledger/work_log.hpp"
#include "payout/settlement.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::ordered_json;

struct StatementFlags {
  std::string url;
  std::string wallet;
  std::uint32_t days = 0;
  bool json = false;
};

std::string time_text(const std::optional<LedgerTime>& time) {
  return time ? ledger::to_text(*time) : std::string();
}

ordered_json json_of(const ledger::StoredReceipt& stored) {
  const wire::Receipt& receipt = stored.receipt.receipt;
  const auto body = wire::encode(receipt);
  ordered_json object = {{"node_id", to_string(receipt.node_id)},
                         {"span", {{"start", receipt.span.begin}, {"end", receipt.span.end}}},
                         {"sequence", receipt.sequence},
                         {"decode_tokens", receipt.counts.decode},
                         {"receipt", to_hex(body)},
                         {"node_key", to_hex(stored.receipt.node_key)},
                         {"node_signature", to_hex(stored.receipt.node_signature)}};
  if (stored.driver_key) {
    object["driver_key"] = to_hex(*stored.driver_key);
    object["driver_signature"] = to_hex(stored.driver_signature);
  }
  return object;
}

ordered_json json_of(const ledger::StatementLine& line) {
  const SessionRecord& session = line.session;
  ordered_json object = {{"session_id", session.session_id},
                         {"model_id", session.model_id},
                         {"status", name(session.status)},
                         {"ended_at", time_text(session.ended_at)},
                         {"tokens", session.tokens_generated},
                         {"prompt_tokens", session.prompt_tokens},
                         {"price_per_token_far", session.price_per_token.to_string()},
                         {"price_per_prompt_token_far", session.price_per_prompt_token.to_string()},
                         {"platform_fee_bps", session.platform_fee_bps},
                         {"split", session.split == SplitPolicy::equal ? "equal" : "layer_units"},
                         {"total_cost_far", session.total_cost.to_string()},
                         {"platform_fee_far", session.platform_fee.to_string()},
                         {"operator_far", session.operator_pay.to_string()},
                         {"operator_tokens", session.operator_tokens},
                         {"work_log", ordered_json::parse(ledger::encode_work(line.log))}};
  object["contributions"] = ordered_json::array();
  for (const Contribution& contribution : session.contributions) {
    object["contributions"].push_back({{"node_id", contribution.node_id},
                                       {"wallet", contribution.wallet},
                                       {"tokens", contribution.tokens},
                                       {"prompt_tokens", contribution.prompt_tokens},
                                       {"layers", contribution.layers},
                                       {"payment_far", contribution.payment.to_string()},
                                       {"batch_id", contribution.batch_id},
                                       {"tx_hash", contribution.payment_tx_hash},
                                       {"paid_at", time_text(contribution.paid_at)}});
  }
  object["receipts"] = ordered_json::array();
  for (const ledger::StoredReceipt& receipt : line.receipts) {
    object["receipts"].push_back(json_of(receipt));
  }
  return object;
}

void print_line(const ledger::StatementLine& line, const StatementFlags& flags) {
  if (flags.json) {
    fmt::print("{}", to_line(json_of(line)));
    return;
  }
  for (const Contribution& mine : line.session.contributions) {
    if (mine.wallet != flags.wallet) continue;
    fmt::print("{}  {}  {:.12}  {:>6} tokens  {:>14} $FAR  {}\n",
               line.session.ended_at ? ledger::to_text(*line.session.ended_at) : "-",
               line.session.session_id, mine.node_id, mine.tokens, mine.payment.to_string(4),
               mine.payment_tx_hash.empty() ? "not paid yet" : mine.payment_tx_hash);
  }
}

/// How the transaction of a batch pays one wallet. Fails as the ledger does.
Result<ordered_json> json_of_call(const std::shared_ptr<ledger::Store>& store,
                                  const ledger::WalletPayment& payment, const std::string& wallet) {
  const auto sent = ledger::PayoutBook(store).transactions(payment.paying_batch);
  if (!sent) return sent.error();
  const auto stored =
      std::ranges::find(*sent, payment.tx_hash, &ledger::StoredTransaction::tx_hash);
  if (stored == sent->end()) return ordered_json();
  const auto transaction = evm::decode_transaction(stored->raw);
  const auto call =
      transaction ? payout::decode_settlement(transaction->transaction.data) : transaction.error();
  if (!call) return Error{Errc::ledger_damaged, "the transaction of " + payment.paying_batch};
  const std::uint64_t chain_id = transaction->transaction.chain_id;
  const evm::Address escrow = transaction->transaction.to.value_or(evm::Address());
  ordered_json object = {{"chain_id", chain_id},
                         {"escrow", evm::to_string(escrow)},
                         {"sender", stored->sender},
                         {"method", payout::name(call->method)}};
  if (call->method == payout::Method::direct) return object;
  const auto batch = ledger::PaymentBatches(store).batch(payment.paying_batch);
  if (!batch) return batch.error();
  const auto settlement = payout::sent_payments(*batch, *sent);
  if (!settlement) return settlement.error();
  const auto tree = payout::payment_tree(*settlement, chain_id, escrow);
  if (!tree) return tree.error();
  const auto who = evm::parse_address(wallet);
  if (!who) return who.error();
  const auto leaf = std::ranges::find(settlement->payments, *who, &payout::Part::who);
  if (leaf == settlement->payments.end()) return Error{Errc::ledger_damaged, "a leaf is missing"};
  const auto index = static_cast<std::size_t>(leaf - settlement->payments.begin());
  ordered_json proof = ordered_json::array();
  for (const evm::Bytes32& hash : tree->proof(index)) proof.push_back(evm::to_hex0x(hash));
  object["leaf"] = {
      {"index", index}, {"amount_far", leaf->amount.to_string()}, {"proof", std::move(proof)}};
  return object;
}

Result<void> print_payments(const std::shared_ptr<ledger::Store>& store,
                            const std::string& wallet) {
  const auto payments = ledger::PaymentBatches(store).of_wallet(wallet);
  if (!payments) return payments.error();
  for (const ledger::WalletPayment& payment : *payments) {
    ordered_json object = {{"batch_id", payment.origin_batch},
                           {"paid_by", payment.paying_batch},
                           {"batch_key", evm::to_hex0x(payout::batch_key(payment.paying_batch))},
                           {"amount_far", payment.amount.to_string()},
                           {"status", payment.status},
                           {"tx_hash", payment.tx_hash}};
    if (payment.block_number) object["block_number"] = *payment.block_number;
    if (!payment.tx_hash.empty()) {
      auto call = json_of_call(store, payment, wallet);
      if (!call) return call.error();
      object.update(*call);
    }
    fmt::print("{}", to_line({{"payment", std::move(object)}}));
  }
  return {};
}

int statement(const StatementFlags& flags) {
  const auto store = open_ledger(flags.url);
  if (!store) return report(store.error());
  LedgerTime since{};
  if (flags.days > 0) since = (*store)->now() - std::chrono::days(flags.days);
  std::int64_t total = 0;
  const auto read = ledger::read_statement(**store, flags.wallet, since, [&](const auto& line) {
    print_line(line, flags);
    for (const Contribution& mine : line.session.contributions) {
      if (mine.wallet == flags.wallet) total += mine.payment.units();
    }
    return true;
  });
  if (!read) return report(read.error());
  const Result<void> paid = flags.json ? print_payments(*store, flags.wallet) : Result<void>();
  if (!paid) return report(paid.error());
  fmt::print(stderr, "{} earned {} $FAR\n", flags.wallet, Far::from_units(total).to_string(4));
  return kSuccess;
}

}  // namespace

void add_ledger_statement(CLI::App& ledger, Run& run) {
  const auto flags = std::make_shared<StatementFlags>();
  CLI::App* verb = ledger.add_subcommand("statement", "What a wallet earned, and why");
  add_ledger_url(*verb, flags->url);
  verb->add_option("--wallet", flags->wallet, "The provider's address")
      ->required()
      ->option_text("ADDRESS");
  verb->add_option("--days", flags->days, "Only the last N days; 0: all")->option_text("N [0]");
  verb->add_flag("--json", flags->json,
                 "Lines of JSON: each session with step log and signed receipts, each payment");
  verb->callback([flags, &run] { run = [flags] { return statement(*flags); }; });
}

}  // namespace farmesh::cli
