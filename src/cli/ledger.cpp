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

#include "cli/chain_flags.hpp"
#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/ledger_claims.hpp"
#include "cli/ledger_reserve.hpp"
#include "cli/ledger_statement.hpp"
#include "cli/statement_check.hpp"
#include "cli/verbs.hpp"
#include "ledger/database.hpp"
#include "ledger/migrations.hpp"
#include "ledger/store.hpp"
#include "node/own_identity.hpp"
#include "payout/reconcile.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::ordered_json;

struct LedgerFlags {
  std::string url;
  std::string wallet;
  std::string statement;
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

/// What is found in a statement that somebody has shown, without his ledger.
int verify_statement(const LedgerFlags& flags) {
  auto chain = flags.chain.open();
  if (!chain) return report(chain.error());
  const auto result = check_statement(flags.statement, flags.wallet, **chain);
  if (!result) return report(result.error());
  print_findings(*result, flags.json);
  fmt::print(stderr, "{} sessions, {} receipts: {} $FAR earned, {} paid; {}\n", result->sessions,
             result->receipts, result->earned.to_string(), result->paid.to_string(),
             result->findings.empty() ? "every sum holds, here and on chain"
                                      : fmt::format("{} differences", result->findings.size()));
  return result->findings.empty() ? kSuccess : kFailure;
}

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
  CLI::Option* file = verify_verb->add_option(
      "--statement", flags->statement, "Check this file of `statement --json` instead of a ledger");
  file->option_text("FILE");
  verify_verb->add_option("--wallet", flags->wallet, "Whose statement it is")
      ->needs(file)
      ->option_text("ADDRESS");
  const auto verify_settings = std::make_shared<Settings>(*verify_verb);
  flags->chain.add_to(*verify_verb, *verify_settings);
  verify_verb->callback([flags, verify_settings, &run] {
    verify_settings->fill();
    run = [flags] {
      return flags->statement.empty() ? audit(*flags, /*balances=*/false, Against::chain)
                                      : verify_statement(*flags);
    };
  });

  add_ledger_claims(*parent, run);
  add_ledger_reserve(*parent, run);
  add_ledger_statement(*parent, run);

  parent->footer(R"(
Examples:
  farmesh ledger migrate --url postgresql://farmesh@db/farmesh
  farmesh ledger audit --url /var/lib/farmesh/ledger.sqlite
  farmesh ledger verify --url ledger.sqlite --network bsc --escrow 0x…
  farmesh ledger statement --url ledger.sqlite --wallet 0x52908400098527886E0F7030069857D2E4169EE7)");
}

}  // namespace farmesh::cli
