#include "cli/statement_check.hpp"

#include <array>
#include <exception>
#include <fstream>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "evm/merkle.hpp"
#include "ledger/audit.hpp"
#include "ledger/work_log.hpp"
#include "payout/reconcile.hpp"
#include "payout/settlement.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxLine = 16u << 20;

/// What one transaction gives the wallet.
struct Paid {
  Far by_sessions;
  Far by_payments;
  std::string key;           // the batch's, in the escrow
  std::optional<json> leaf;  // where it funds a tree
};

struct Statement {
  std::string wallet;
  AuditReport report;
  std::map<std::string, Paid> paid;  // by transaction

  void find(std::string table, std::string row, std::string what) {
    report.findings.push_back({std::move(table), std::move(row), std::move(what)});
  }
};

// The readers below throw what nlohmann throws; check_statement() catches it.
class NoStatement : public std::exception {};

Far far_of(const json& object, const char* name) {
  const auto amount = Far::parse(object.at(name).get<std::string>());
  if (!amount) throw NoStatement();
  return *amount;
}

void add(Far& sum, Far more) {
  const auto both = sum.plus(more);
  if (!both) throw NoStatement();
  sum = *both;
}

template <std::size_t N>
void read_hex(const json& object, const char* name, std::array<std::uint8_t, N>& out) {
  if (!from_hex(object.at(name).get<std::string>(), out)) throw NoStatement();
}

SessionRecord session_of(const json& line) {
  SessionRecord session;
  session.session_id = line.at("session_id");
  session.price_per_token = far_of(line, "price_per_token_far");
  session.price_per_prompt_token = far_of(line, "price_per_prompt_token_far");
  session.platform_fee_bps = line.at("platform_fee_bps");
  session.split = line.at("split") == "equal" ? SplitPolicy::equal : SplitPolicy::layer_units;
  session.tokens_generated = line.at("tokens");
  session.prompt_tokens = line.at("prompt_tokens");
  session.total_cost = far_of(line, "total_cost_far");
  session.platform_fee = far_of(line, "platform_fee_far");
  session.operator_pay = far_of(line, "operator_far");
  session.operator_tokens = line.at("operator_tokens");
  for (const json& one : line.at("contributions")) {
    Contribution& contribution = session.contributions.emplace_back();
    contribution.node_id = one.at("node_id");
    contribution.wallet = one.at("wallet");
    contribution.tokens = one.at("tokens");
    contribution.prompt_tokens = one.at("prompt_tokens");
    contribution.layers = one.at("layers").get<std::vector<std::uint32_t>>();
    contribution.payment = far_of(one, "payment_far");
    contribution.payment_tx_hash = one.at("tx_hash");
  }
  return session;
}

ledger::StoredReceipt receipt_of(const json& object) {
  ledger::StoredReceipt stored;
  std::array<std::uint8_t, wire::kReceiptBytes> body{};
  read_hex(object, "receipt", body);
  const auto receipt = wire::decode_receipt(body);
  if (!receipt) throw NoStatement();
  stored.receipt.receipt = *receipt;
  stored.id = receipt->sequence;
  read_hex(object, "node_key", stored.receipt.node_key);
  read_hex(object, "node_signature", stored.receipt.node_signature);
  if (!object.contains("driver_key")) return stored;
  read_hex(object, "driver_key", stored.driver_key.emplace());
  read_hex(object, "driver_signature", stored.driver_signature);
  return stored;
}

void read_session(const json& line, Statement& statement) {
  const SessionRecord session = session_of(line);
  const auto log = ledger::decode_work(line.at("work_log").dump());
  if (!log) throw NoStatement();
  ledger::check_shares(session, *log, statement.report);
  for (const json& object : line.at("receipts")) {
    ledger::check_receipt(receipt_of(object), session.session_id, statement.report);
    ++statement.report.receipts;
  }
  for (const Contribution& one : session.contributions) {
    if (one.wallet != statement.wallet) continue;
    add(statement.report.earned, one.payment);
    ++statement.report.contributions;
    if (one.payment_tx_hash.empty()) continue;
    add(statement.report.paid, one.payment);
    add(statement.paid[one.payment_tx_hash].by_sessions, one.payment);
  }
  ++statement.report.sessions;
}

void read_payment(const json& payment, Statement& statement) {
  const std::string hash = payment.at("tx_hash");
  if (hash.empty()) return;
  Paid& paid = statement.paid[hash];
  add(paid.by_payments, far_of(payment, "amount_far"));
  paid.key = payment.at("batch_key");
  if (payment.contains("leaf")) paid.leaf = payment.at("leaf");
}

void read_line(const std::string& text, Statement& statement) {
  const json line = json::parse(text);
  if (line.contains("payment")) {
    read_payment(line.at("payment"), statement);
  } else {
    read_session(line, statement);
  }
}

evm::Bytes32 word_of(const std::string& text) {
  evm::Bytes32 word{};
  if (!text.starts_with("0x") || !from_hex(std::string_view(text).substr(2), word)) {
    throw NoStatement();
  }
  return word;
}

/// The funded tree has a leaf that pays the wallet that much.
Result<Far> paid_by_tree(const Paid& paid, const evm::Address& wallet, payout::Chain& chain) {
  const evm::Bytes32 key = word_of(paid.key);
  const auto batch = chain.batch(key);
  if (!batch) return batch.error();
  const Far amount = far_of(*paid.leaf, "amount_far");
  const auto leaf = payout::payment_leaf(key, paid.leaf->at("index"), {wallet, amount}, chain.id(),
                                         chain.escrow());
  if (!leaf) return leaf.error();
  std::vector<evm::Bytes32> proof;
  for (const json& hash : paid.leaf->at("proof")) proof.push_back(word_of(hash));
  return evm::verify_merkle_proof(batch->root, *leaf, proof) ? amount : Far();
}

Result<void> check_transaction(const std::string& hash, const Paid& paid,
                               const evm::Address& wallet, payout::Chain& chain,
                               Statement& statement) {
  if (paid.by_sessions != paid.by_payments) {
    statement.find("payment", hash,
                   "is " + paid.by_payments.to_string() + " and its sessions earned " +
                       paid.by_sessions.to_string());
  }
  const auto receipt = chain.receipt(word_of(hash));
  if (!receipt) return receipt.error();
  if (!*receipt || !(*receipt)->succeeded) {
    statement.find("payment", hash, "is not in the chain");
    return {};
  }
  const Result<Far> there =
      paid.leaf ? paid_by_tree(paid, wallet, chain)
                : payout::paid_to(**receipt, chain.escrow(), word_of(paid.key), wallet);
  if (!there) return there.error();
  // More than that is the operator's, where he is a provider too.
  if (*there < paid.by_sessions) {
    statement.find("payment", hash,
                   "paid " + there->to_string() + " on chain and should have paid " +
                       paid.by_sessions.to_string());
  }
  return {};
}

}  // namespace

Result<AuditReport> check_statement(const std::string& file, const std::string& wallet,
                                    payout::Chain& chain) {
  const auto address = evm::parse_address(wallet);
  if (!address) return address.error();
  std::ifstream lines(file);
  if (!lines) return Error{Errc::io_error, "cannot read " + file};
  Statement statement;
  statement.wallet = wallet;
  std::size_t number = 0;
  try {
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.size() > kMaxLine) throw NoStatement();
      read_line(line, statement);
    }
    for (const auto& [hash, paid] : statement.paid) {
      const Result<void> checked = check_transaction(hash, paid, *address, chain, statement);
      if (!checked) return checked.error();
    }
  } catch (const std::exception&) {
    return Error{Errc::config_invalid, file + " is no statement: line " + std::to_string(number)};
  }
  return std::move(statement.report);
}

}  // namespace farmesh::cli
