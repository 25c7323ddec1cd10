// farmesh ledger: migrate a database, check every sum in it, and show what a wallet earned.
#include "cli/ledger.hpp"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include <farmesh/ledger.hpp>

#include "base/digest.hpp"
#include "cli/chain_flags.hpp"
#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/ledger_claims.hpp"
#include "cli/verbs.hpp"
#include "ledger/database.hpp"
#include "ledger/migrations.hpp"
#include "ledger/statement.hpp"
#include "ledger/store.hpp"
#include "ledger/work_log.hpp"
#include "node/own_identity.hpp"
#include "payout/reconcile.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::ordered_json;

struct LedgerFlags {
  std::string url;
  std::string wallet;
  std::uint32_t days = 0;
  bool json = false;
  ChainFlags chain;
};

int migrate(const LedgerFlags& flags) {
  const auto store = open_ledger(flags.url);
  if (!store) return report(store.error());
  fmt::print("the ledger has version {}\n", ledger::migrations().back().version);
  return kSuccess;
}

void print_findings(const AuditReport& found, bool json) {
  for (const AuditFinding& finding : found.findings) {
    if (json) {
      fmt::print("{}",
                 to_line({{"table", finding.table}, {"row", finding.row}, {"what", finding.what}}));
    } else {
      fmt::print("{} {}: {}\n", finding.table, finding.row, finding.what);
    }
  }
}

enum class Against { ledger, chain };

/// The ledger against itself, and against the chain where one is named or must be.
int audit(const LedgerFlags& flags, bool balances, Against least) {
  const auto store = open_ledger(flags.url);
  if (!store) return report(store.error());
  auto result = ContributionLedger(*store).audit();
  if (!result) return report(result.error());
  const bool with_chain = least == Against::chain || flags.chain.given();
  if (with_chain) {
    auto chain = flags.chain.open();
    if (!chain) return report(chain.error());
    Result<void> checked = payout::check_payments(*store, **chain, *result);
    if (checked && balances) {
      checked = payout::check_balances(*store, **chain, flags.chain.start_block, *result);
    }
    if (!checked) return report(checked.error());
  }
  print_findings(*result, flags.json);
  fmt::print(stderr, "{} sessions, {} contributions, {} receipts: {} $FAR earned, {} paid; {}\n",
             result->sessions, result->contributions, result->receipts, result->earned.to_string(),
             result->paid.to_string(),
             !result->findings.empty() ? fmt::format("{} differences", result->findings.size())
             : with_chain              ? "every sum holds, here and on chain"
                                       : "every sum holds");
  return result->findings.empty() ? kSuccess : kFailure;
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
                         {"ended_at", session.ended_at ? ledger::to_text(*session.ended_at) : ""},
                         {"tokens", session.tokens_generated},
                         {"price_per_token_far", session.price_per_token.to_string()},
                         {"price_per_prompt_token_far", session.price_per_prompt_token.to_string()},
                         {"platform_fee_bps", session.platform_fee_bps},
                         {"split", session.split == SplitPolicy::equal ? "equal" : "layer_units"},
                         {"total_cost_far", session.total_cost.to_string()},
                         {"work_log", ordered_json::parse(ledger::encode_work(line.log))}};
  object["contributions"] = ordered_json::array();
  for (const Contribution& contribution : session.contributions) {
    object["contributions"].push_back({{"node_id", contribution.node_id},
                                       {"wallet", contribution.wallet},
                                       {"tokens", contribution.tokens},
                                       {"prompt_tokens", contribution.prompt_tokens},
                                       {"payment_far", contribution.payment.to_string()},
                                       {"batch_id", contribution.batch_id},
                                       {"tx_hash", contribution.payment_tx_hash}});
  }
  object["receipts"] = ordered_json::array();
  for (const ledger::StoredReceipt& receipt : line.receipts) {
    object["receipts"].push_back(json_of(receipt));
  }
  return object;
}

void print_line(const ledger::StatementLine& line, const LedgerFlags& flags) {
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

int statement(const LedgerFlags& flags) {
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
  fmt::print(stderr, "{} earned {} $FAR\n", flags.wallet, Far::from_units(total).to_string(4));
  return kSuccess;
}

void add_checks(CLI::App& verb, LedgerFlags& flags) {
  verb.add_flag("--json", flags.json, "A line of JSON for each difference");
}

CLI::App* add_ledger_verb(CLI::App& parent, const std::string& name, const std::string& help,
                          const std::shared_ptr<LedgerFlags>& flags) {
  CLI::App* verb = parent.add_subcommand(name, help);
  add_ledger_url(*verb, flags->url);
  return verb;
}

}  // namespace

void add_ledger_url(CLI::App& verb, std::string& url) {
  verb.add_option("--url", url, "postgresql://… or a SQLite file; default POSTGRES_URL")
      ->option_text("URL");
}

Result<std::shared_ptr<ledger::Store>> open_ledger(std::string url) {
  for (const char* name : {"POSTGRES_URL", "DATABASE_URL"}) {
    const char* value = std::getenv(name);
    if (url.empty() && value != nullptr) url = value;
  }
  if (url.empty()) {
    return Error{Errc::config_invalid, "name the ledger: --url, or POSTGRES_URL"};
  }
  LedgerOptions options;
  options.url = std::move(url);
  return ledger::Store::open(std::move(options));
}

Result<std::shared_ptr<ledger::Store>> open_service_ledger(std::string url) {
  LedgerOptions options;
  options.url = std::move(url);
  if (options.url.empty()) {
    const std::filesystem::path folder = node::data_folder();
    std::error_code ignored;  // opening tells better what is wrong
    std::filesystem::create_directories(folder, ignored);
    options.url = (folder / "ledger.sqlite").string();
  }
  return ledger::Store::open(std::move(options));
}

void add_ledger(CLI::App& program, Run& run) {
  CLI::App* parent = program.add_subcommand("ledger", "Who did what, and what each is owed");
  parent->require_subcommand(1);
  const auto flags = std::make_shared<LedgerFlags>();

  CLI::App* migrate_verb =
      add_ledger_verb(*parent, "migrate", "Bring the database to this version", flags);
  migrate_verb->callback([flags, &run] { run = [flags] { return migrate(*flags); }; });

  CLI::App* audit_verb = add_ledger_verb(
      *parent, "audit", "Compute every sum again; exits with 1 on any difference", flags);
  add_checks(*audit_verb, *flags);
  const auto audit_settings = std::make_shared<Settings>(*audit_verb);
  flags->chain.add_to(*audit_verb, *audit_settings);
  audit_verb->callback([flags, audit_settings, &run] {
    audit_settings->fill();
    run = [flags] { return audit(*flags, /*balances=*/true, Against::ledger); };
  });

  CLI::App* verify_verb = add_ledger_verb(
      *parent, "verify", "Compute each payment again, from receipts to the chain", flags);
  add_checks(*verify_verb, *flags);
  const auto verify_settings = std::make_shared<Settings>(*verify_verb);
  flags->chain.add_to(*verify_verb, *verify_settings);
  verify_verb->callback([flags, verify_settings, &run] {
    verify_settings->fill();
    run = [flags] { return audit(*flags, /*balances=*/false, Against::chain); };
  });

  CLI::App* statement_verb =
      add_ledger_verb(*parent, "statement", "What a wallet earned, and why", flags);
  statement_verb->add_option("--wallet", flags->wallet, "The provider's address")
      ->required()
      ->option_text("ADDRESS");
  statement_verb->add_option("--days", flags->days, "Only the last N days; 0: all")
      ->option_text("N [0]");
  statement_verb->add_flag("--json", flags->json,
                           "A line of JSON for each session, with step log and signed receipts");
  statement_verb->callback([flags, &run] { run = [flags] { return statement(*flags); }; });

  add_ledger_claims(*parent, run);

  parent->footer(R"(
Examples:
  farmesh ledger migrate --url postgresql://farmesh@db/farmesh
  farmesh ledger audit --url /var/lib/farmesh/ledger.sqlite
  farmesh ledger verify --url ledger.sqlite --network bsc --escrow 0x…
  farmesh ledger statement --url ledger.sqlite --wallet 0x52908400098527886E0F7030069857D2E4169EE7)");
}

}  // namespace farmesh::cli
