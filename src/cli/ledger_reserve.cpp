#include "cli/ledger_reserve.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "cli/chain_flags.hpp"
#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "evm/http_post.hpp"
#include "ledger/database.hpp"
#include "payout/reservation.hpp"

namespace farmesh::cli {
namespace {

constexpr std::int64_t kLatest = 253'402'300'799;  // the last second of the year 9999

struct ReserveFlags {
  std::string url;
  std::string request_id;
  std::string user;
  std::string amount;
  std::int64_t deadline = 0;  // Unix time, seconds
  std::string signature;
  ChainFlags chain;
};

Result<ledger::EscrowReservation> terms_of(const ReserveFlags& flags) {
  const auto user = evm::parse_address(flags.user);
  if (!user) return user.error();
  const auto amount = Far::parse(flags.amount);
  if (!amount) {
    return Error{Errc::config_invalid,
                 "--amount wants a decimal such as 0.5, not '" + flags.amount + "'"};
  }
  ledger::EscrowReservation terms;
  terms.request_id = flags.request_id;
  terms.request_key = evm::to_hex0x(payout::request_key(flags.request_id));
  terms.account = evm::to_lower_case(*user);
  terms.amount = *amount;
  terms.deadline = LedgerTime(std::chrono::seconds(flags.deadline));
  return terms;
}

int reserve(const ReserveFlags& flags) {
  auto terms = terms_of(flags);
  if (!terms) return report(terms.error());
  const auto chain = flags.chain.chosen();
  if (!chain) return report(chain.error());
  if (flags.signature.empty()) {
    const auto user = evm::parse_address(terms->account);
    fmt::print("{}\n", payout::typed_data_json(payout::to_sign(*terms, *user), chain->rpc.chain_id,
                                               chain->escrow));
    return kSuccess;
  }
  auto signature = evm::parse_hex0x(flags.signature, evm::kMaxSignatureBytes);
  if (!signature) return report(signature.error());
  terms->signature = *std::move(signature);
  const Result<void> good =
      payout::check_signature(*terms, chain->rpc.chain_id, chain->escrow,
                              evm::contract_wallets(chain->rpc, evm::http_post()));
  if (!good) return report(good.error());
  const auto store = open_ledger(flags.url);
  if (!store) return report(store.error());
  const auto made = ledger::EscrowReservations(*store).sign(*terms);
  if (!made) return report(made.error());
  fmt::print("{}", to_line({{"request_id", made->request_id},
                            {"request_key", made->request_key},
                            {"user", made->account},
                            {"amount_far", made->amount.to_string()},
                            {"deadline", ledger::to_text(made->deadline)},
                            {"status", name(made->status)}}));
  return kSuccess;
}

}  // namespace

void add_ledger_reserve(CLI::App& ledger, Run& run) {
  const auto flags = std::make_shared<ReserveFlags>();
  CLI::App* verb = ledger.add_subcommand(
      "reserve", "Print what a user signs to pay for one request, or take his signature down");
  add_ledger_url(*verb, flags->url);
  verb->add_option("--request-id", flags->request_id, "The request's id, as it will be sent")
      ->required()
      ->option_text("ID");
  verb->add_option("--user", flags->user, "Who pays")->required()->option_text("ADDRESS");
  verb->add_option("--amount", flags->amount, "At most, in $FAR")->required()->option_text("FAR");
  verb->add_option("--deadline", flags->deadline,
                   "Unix time after which it returns to the user; 30 days ahead at most")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, kLatest))
      ->option_text("SECONDS");
  verb->add_option("--signature", flags->signature, "The user's, of what is printed without it")
      ->option_text("HEX");
  const auto settings = std::make_shared<Settings>(*verb);
  flags->chain.add_to(*verb, *settings);
  verb->callback([flags, settings, &run] {
    settings->fill();
    run = [flags] { return reserve(*flags); };
  });
}

}  // namespace farmesh::cli
