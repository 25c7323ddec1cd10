#include "cli/ledger_reserve.hpp"

#include <chrono>
#include <memory>
#include <string>

#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "cli/chain_flags.hpp"
#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "ledger/database.hpp"
#include "payout/reservation.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::ordered_json;

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

/// As eth_signTypedData_v4 takes it. Numbers are text: JSON's have 53 bits.
ordered_json to_sign(const evm::Reservation& terms, std::uint64_t chain_id,
                     const evm::Address& escrow) {
  const auto member = [](const char* name, const char* type) {
    return ordered_json{{"name", name}, {"type", type}};
  };
  const evm::TypedDomain domain = evm::escrow_domain(chain_id, escrow);
  return {{"types",
           {{"EIP712Domain",
             {member("name", "string"), member("version", "string"), member("chainId", "uint256"),
              member("verifyingContract", "address")}},
            {"Reservation",
             {member("user", "address"), member("requestId", "bytes32"),
              member("amount", "uint256"), member("deadline", "uint64")}}}},
          {"primaryType", "Reservation"},
          {"domain",
           {{"name", domain.name},
            {"version", domain.version},
            {"chainId", chain_id},
            {"verifyingContract", evm::to_string(escrow)}}},
          {"message",
           {{"user", evm::to_string(terms.user)},
            {"requestId", evm::to_hex0x(terms.request_id)},
            {"amount", terms.amount.to_decimal()},
            {"deadline", std::to_string(terms.deadline)}}}};
}

int reserve(const ReserveFlags& flags) {
  auto terms = terms_of(flags);
  if (!terms) return report(terms.error());
  const auto chain = flags.chain.chosen();
  if (!chain) return report(chain.error());
  if (flags.signature.empty()) {
    const auto user = evm::parse_address(terms->account);
    fmt::print(
        "{}", to_line(to_sign(payout::to_sign(*terms, *user), chain->rpc.chain_id, chain->escrow)));
    return kSuccess;
  }
  const auto signature = evm::Signature::parse(flags.signature);
  if (!signature) return report(signature.error());
  const auto bytes = signature->to_bytes();
  terms->signature.assign(bytes.begin(), bytes.end());
  const Result<void> good = payout::check_signature(*terms, chain->rpc.chain_id, chain->escrow);
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
