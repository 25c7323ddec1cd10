#include "cli/ledger_claims.hpp"

#include <memory>
#include <string>

#include <fmt/format.h>

#include "cli/chain_flags.hpp"
#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "evm/wei.hpp"
#include "ledger/payment_batches.hpp"
#include "payout/settlement.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::ordered_json;

struct ClaimFlags {
  std::string url;
  std::string batch;
  std::string wallet;
  ChainFlags chain;
};

int claims(const ClaimFlags& flags) {
  const auto store = open_ledger(flags.url);
  if (!store) return report(store.error());
  const auto chain = flags.chain.chosen();
  if (!chain) return report(chain.error());
  const auto batch = ledger::PaymentBatches(*store).batch(flags.batch);
  if (!batch) return report(batch.error());
  const auto sent = ledger::PayoutBook(*store).transactions(batch->id);
  if (!sent) return report(sent.error());
  const auto settlement = payout::sent_payments(*batch, *sent);
  if (!settlement) return report(settlement.error());
  const auto tree = payout::payment_tree(*settlement, chain->rpc.chain_id, chain->escrow);
  if (!tree) return report(tree.error());
  for (std::size_t leaf = 0; leaf < settlement->payments.size(); ++leaf) {
    const payout::Part& payment = settlement->payments[leaf];
    const std::string provider = evm::to_string(payment.who);
    if (!flags.wallet.empty() && flags.wallet != provider &&
        flags.wallet != evm::to_lower_case(payment.who)) {
      continue;
    }
    ordered_json proof = ordered_json::array();
    for (const evm::Bytes32& hash : tree->proof(leaf)) proof.push_back(evm::to_hex0x(hash));
    fmt::print("{}", to_line({{"batch_id", evm::to_hex0x(payout::batch_key(batch->id))},
                              {"index", leaf},
                              {"provider", provider},
                              {"amount", evm::to_wei(payment.amount).to_decimal()},
                              {"proof", std::move(proof)}}));
  }
  return kSuccess;
}

}  // namespace

void add_ledger_claims(CLI::App& ledger, Run& run) {
  const auto flags = std::make_shared<ClaimFlags>();
  CLI::App* verb = ledger.add_subcommand(
      "claims", "What providers hand to the escrow to take their part of a funded tree");
  add_ledger_url(*verb, flags->url);
  verb->add_option("--batch", flags->batch, "The batch's id")->required()->option_text("ID");
  verb->add_option("--wallet", flags->wallet, "Only this provider's")->option_text("ADDRESS");
  const auto settings = std::make_shared<Settings>(*verb);
  flags->chain.add_to(*verb, *settings);
  verb->callback([flags, settings, &run] {
    settings->fill();
    run = [flags] { return claims(*flags); };
  });
}

}  // namespace farmesh::cli
