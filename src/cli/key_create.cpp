#include "cli/key_create.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/ledger.hpp"
#include "ledger/access.hpp"

namespace farmesh::cli {
namespace {

struct CreateFlags {
  std::string url;
  ledger::ApiKey key;
  std::vector<std::string> scopes;
  int days = 0;
};

int create(const CreateFlags& flags) {
  const auto store = open_ledger(flags.url);
  if (!store) return report(store.error());
  ledger::ApiKey wanted = flags.key;
  wanted.scopes.infer = flags.scopes.empty();
  for (const std::string& scope : flags.scopes) {
    wanted.scopes.infer |= scope == "infer";
    wanted.scopes.provider |= scope == "provider";
    wanted.scopes.admin |= scope == "admin";
  }
  if (flags.days > 0) wanted.expires_at = (*store)->now() + std::chrono::days(flags.days);
  const auto made = ledger::ApiKeys(*store).create(wanted);
  if (!made) return report(made.error());
  fmt::print("{}\n", made->secret);
  fmt::print(stderr, "farmesh: key {} of account {}; it is not shown again\n", made->key.key_id,
             made->key.account);
  return kSuccess;
}

}  // namespace

void add_key_create(CLI::App& key, Run& run) {
  const auto flags = std::make_shared<CreateFlags>();
  CLI::App* verb = key.add_subcommand("create", "Make an API key for the coordinator");
  add_ledger_url(*verb, flags->url);
  verb->add_option("--scope", flags->scopes, "infer (the default), provider or admin; repeatable")
      ->check(CLI::IsMember({"infer", "provider", "admin"}))
      ->option_text("NAME");
  verb->add_option("--account", flags->key.account, "Whose credit it spends; default its own")
      ->option_text("ID");
  verb->add_option("--name", flags->key.name, "What people call it")->option_text("TEXT");
  add_option_with_default(*verb, "--tier", flags->key.tier, "standard, premium or enterprise",
                          "NAME")
      ->check(CLI::IsMember({"standard", "premium", "enterprise"}));
  add_option_with_default(*verb, "--days", flags->days, "How long it is valid; 0: until revoked",
                          "N")
      ->check(CLI::Range(0, 36'500));
  verb->callback([flags, &run] { run = [flags] { return create(*flags); }; });
}

}  // namespace farmesh::cli
