// farmesh payout: pays providers for the work in the ledger, and credits users' deposits.
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "cli/chain_flags.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "cli/stop_request.hpp"
#include "cli/verbs.hpp"
#include "ledger/database.hpp"
#include "ledger/store.hpp"
#include "payout/deposits.hpp"
#include "payout/payer.hpp"

namespace farmesh::cli {
namespace {

struct PayoutFlags {
  std::string ledger;
  ChainFlags chain;
  SenderFlags sender;
  bool once = false;
  bool dry_run = false;
  std::string pause;
  bool resume = false;
  bool no_deposits = false;

  std::string minimum = "10";
  std::string daily_limit;
  std::string backing;
  std::string operator_wallet;
  std::string schedule = "weekly mon 00:00";
  std::uint32_t hold_minutes = 60;
  std::uint32_t dust_days = 0;
  std::uint64_t confirmations = 0;
  std::uint64_t max_fee_gwei = 0;
  std::uint64_t max_cost_gwei = 0;
  std::uint32_t stuck_seconds = 120;
  std::uint32_t lease_seconds = 120;
  std::uint32_t poll_ms = 3'000;
  payout::PayerOptions options;
};

constexpr std::uint64_t kWeiPerGwei = 1'000'000'000;

Result<Far> amount(const std::string& flag, const std::string& text) {
  const std::optional<Far> far = Far::parse(text);
  if (far && !far->is_negative()) return *far;
  return Error{Errc::config_invalid, flag + " wants a decimal such as 10.5, not '" + text + "'"};
}

Result<evm::U256> gwei(std::uint64_t value) {
  const auto wei = checked_multiply(evm::U256(value), kWeiPerGwei);
  return wei ? Result<evm::U256>(*wei) : Error{Errc::config_invalid, "too many gwei"};
}

Result<payout::PayerOptions> payer_options(const PayoutFlags& flags) {
  payout::PayerOptions options = flags.options;
  const auto minimum = amount("--minimum", flags.minimum);
  if (!minimum) return minimum.error();
  options.minimum = *minimum;
  if (!flags.daily_limit.empty()) {
    const auto limit = amount("--daily-limit", flags.daily_limit);
    if (!limit) return limit.error();
    options.daily_limit = *limit;
  }
  if (!flags.backing.empty()) {
    const auto backing = evm::parse_address(flags.backing);
    if (!backing) return backing.error();
    options.backing = *backing;
  }
  if (!flags.operator_wallet.empty()) {
    const auto wallet = evm::parse_address(flags.operator_wallet);
    if (!wallet) return wallet.error();
    options.operator_wallet = *wallet;
  }
  const auto schedule = payout::parse_schedule(flags.schedule);
  if (!schedule) return schedule.error();
  options.schedule = *schedule;
  if (flags.once) options.schedule.reset();
  if (flags.max_fee_gwei > 0) {
    const auto wei = gwei(flags.max_fee_gwei);
    if (!wei) return wei.error();
    options.max_fee_per_gas = *wei;
  }
  if (flags.max_cost_gwei > 0) {
    const auto wei = gwei(flags.max_cost_gwei);
    if (!wei) return wei.error();
    options.max_cost = *wei;
  }
  options.hold = std::chrono::minutes(flags.hold_minutes);
  options.dust_after = std::chrono::days(flags.dust_days);
  options.stuck_after = std::chrono::seconds(flags.stuck_seconds);
  options.lease = std::chrono::seconds(flags.lease_seconds);
  options.confirmations =
      flags.confirmations > 0 ? flags.confirmations : flags.chain.confirmations();
  return options;
}

int show_preview(payout::Payer& payer) {
  const auto preview = payer.preview();
  if (!preview) return report(preview.error());
  for (const ledger::Payable& one : preview->payable) {
    fmt::print("{}  {} $FAR\n", one.wallet, one.amount.to_string(4));
  }
  fmt::print(stderr, "{} wallets, {} $FAR, {}, about {} gas; nothing was done\n",
             preview->payable.size(), preview->total.to_string(4), name(preview->method),
             preview->expected_gas);
  return kSuccess;
}

/// Says each thing once.
class Teller {
 public:
  void tell(const payout::Step& step, LedgerTime now) {
    using payout::Did;
    const bool quiet = step.did == Did::waiting || step.did == Did::idle ||
                       step.did == Did::errand || step.did == Did::standby ||
                       step.did == Did::paused;
    std::string line = fmt::format("{} {}{}{}", name(step.did), step.batch_id,
                                   step.batch_id.empty() ? "" : " ", step.what);
    if (quiet && line == last_) return;
    fmt::print(quiet ? stderr : stdout, "{} {}\n", ledger::to_text(now), line);
    std::fflush(quiet ? stderr : stdout);
    last_ = std::move(line);
  }
  void tell(const payout::DepositStep& step, LedgerTime now) {
    if (step.deposits + step.withdrawals + step.requests + step.dropped == 0) return;
    fmt::print(
        "{} seen {} deposits, {} withdrawals, {} requests for one, {} taken back, up to block {}\n",
        ledger::to_text(now), step.deposits, step.withdrawals, step.requests, step.dropped,
        step.at_block);
    std::fflush(stdout);
  }
  void tell(const Error& error, LedgerTime now) {
    std::string line = error.to_string();
    if (line == last_) return;
    fmt::print(stderr, "{} {}\n", ledger::to_text(now), line);
    last_ = std::move(line);
  }

 private:
  std::string last_;
};

/// Deposits first, so that what users have paid in can be charged. True when all blocks are read.
Result<bool> read_deposits(payout::DepositWatcher& watcher, Teller& teller, LedgerTime now) {
  const auto step = watcher.step();
  if (!step) return step.error();
  teller.tell(*step, now);
  return step->up_to_date;
}

int run_payer(const PayoutFlags& flags, ledger::Store& store, payout::Payer& payer,
              payout::DepositWatcher& watcher, StopRequest& stop) {
  Teller teller;
  bool refused = false;
  stop.ready();
  for (;;) {
    using payout::Did;
    std::optional<Error> failure;
    bool more_blocks = false;
    if (!flags.no_deposits) {
      const auto read = read_deposits(watcher, teller, store.now());
      if (!read) failure = read.error();
      more_blocks = read && !*read;
    }
    const auto step = payer.step();
    if (step) teller.tell(*step, store.now());
    if (!step) failure = step.error();
    if (failure) teller.tell(*failure, store.now());
    // Waiting mends a chain that is away, not these.
    const bool hopeless = failure && (failure->code == Errc::config_invalid ||
                                      failure->code == Errc::wallet_signature_invalid);
    if (hopeless && flags.once) {
      (void)payer.yield();
      return report(*failure);
    }
    refused = refused || (step && step->did == Did::failed);
    const bool at_rest =
        step && (step->did == Did::idle || step->did == Did::standby || step->did == Did::paused ||
                 (step->did == Did::waiting && step->batch_id.empty()));
    if (flags.once && at_rest && !failure && !more_blocks) break;
    const bool waits = !step || at_rest || step->did == Did::waiting || step->did == Did::errand;
    const auto pause = std::chrono::milliseconds(waits && !more_blocks ? flags.poll_ms : 0);
    if (stop.wait_for(pause)) break;
  }
  (void)payer.yield();  // it would expire by itself
  return refused ? kFailure : kSuccess;
}

int pay(const PayoutFlags& flags) {
  StopRequest stop;
  auto store = open_service_ledger(flags.ledger);
  if (!store) return report(store.error());
  if (!flags.pause.empty() || flags.resume) {
    ledger::PayoutBook book(*store);
    const Result<void> set = flags.resume ? book.resume() : book.pause(flags.pause);
    return set ? kSuccess : report(set.error());
  }
  const auto options = payer_options(flags);
  if (!options) return report(options.error());
  auto chain = flags.chain.open();
  if (!chain) return report(chain.error());
  // A look at the next batch needs nobody's key.
  auto signer = flags.dry_run && !flags.sender.given()
                    ? Result<std::unique_ptr<evm::Signer>>(
                          std::make_unique<evm::KeySigner>(evm::PrivateKey::generate()))
                    : flags.sender.open();
  if (!signer) return report(signer.error());
  payout::Payer payer(*store, **chain, **signer, *options);
  if (flags.dry_run) return show_preview(payer);
  payout::DepositWatcher watcher(*store, **chain,
                                 {options->confirmations, flags.chain.start_block});
  fmt::print(stderr, "paying from {} on chain {} through {}{}\n",
             evm::to_string((*signer)->address()), (*chain)->id(),
             evm::to_string((*chain)->escrow()), flags.once ? ", once" : ", " + flags.schedule);
  return run_payer(flags, **store, payer, watcher, stop);
}

void add_limits(CLI::App& verb, PayoutFlags& flags) {
  add_option_with_default(verb, "--minimum", flags.minimum, "$FAR a wallet; less waits", "FAR");
  add_option_with_default(verb, "--hold", flags.hold_minutes, "Before work is payable", "MINUTES");
  add_option_with_default(verb, "--dust-days", flags.dust_days,
                          "Pay less than the minimum when it is that old; 0: never", "N");
  add_option_with_default(verb, "--schedule", flags.schedule,
                          "weekly DAY HH:MM, daily HH:MM or hourly; UTC", "TEXT");
  verb.add_option("--daily-limit", flags.daily_limit, "$FAR within 24 hours; default: none")
      ->option_text("FAR");
  add_option_with_default(verb, "--max-wallets", flags.options.max_wallets, "In a batch", "N")
      ->check(CLI::Range(1, 1'000));
  add_option_with_default(verb, "--max-gas", flags.options.max_gas,
                          "Of a direct batch; above it a tree to claim from", "N");
  verb.add_option("--max-cost", flags.max_cost_gwei,
                  "Of a direct batch, in gwei; above it a tree; default: none")
      ->option_text("GWEI");
  verb.add_option("--max-fee", flags.max_fee_gwei,
                  "A unit of gas; payout waits while it costs more; default: none")
      ->option_text("GWEI");
  verb.add_option("--backing", flags.backing,
                  "Escrow account that pays what no user's covers; default: the sender's")
      ->option_text("ADDRESS");
  verb.add_option("--operator", flags.operator_wallet,
                  "Receives the operator's own share of sessions; default: --backing's address")
      ->option_text("ADDRESS");
  verb.add_option("--confirmations", flags.confirmations,
                  "Blocks until paid; default: 1 on anvil, 10 on bsc-testnet, else 15")
      ->option_text("N");
  add_option_with_default(verb, "--stuck", flags.stuck_seconds,
                          "After which a transaction is sent with a higher fee", "SECONDS");
  add_option_with_default(verb, "--lease", flags.lease_seconds,
                          "After which another payer takes over from one that died", "SECONDS")
      ->check(CLI::Range(1, 86'400));
  add_option_with_default(verb, "--poll", flags.poll_ms, "Between two looks at the chain", "MS")
      ->check(CLI::Range(1, 600'000));
}

}  // namespace

void add_payout(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<PayoutFlags>();
  CLI::App* verb =
      program.add_subcommand("payout", "Pay providers for the work in the ledger, exactly once");
  const auto settings = std::make_shared<Settings>(*verb);
  settings->from_environment(
      verb->add_option("--ledger", flags->ledger, "postgresql://… or a SQLite file")
          ->option_text("URL"),
      {"POSTGRES_URL", "DATABASE_URL"});
  flags->chain.add_to(*verb, *settings);
  flags->sender.add_to(*verb);
  verb->add_flag("--once", flags->once, "Pay what is payable now, and end");
  verb->add_flag("--dry-run", flags->dry_run, "Print the batch that would be made, and end");
  verb->add_option("--pause", flags->pause, "Stop all payers of this ledger, and end")
      ->option_text("REASON");
  verb->add_flag("--resume", flags->resume, "Let them go on, and end");
  verb->add_flag("--no-deposits", flags->no_deposits, "Leave users' deposits to another process");
  add_limits(*verb, *flags);
  verb->footer(R"(
Examples:
  farmesh payout --ledger ledger.sqlite --network bsc-testnet --escrow 0x… --dry-run
  farmesh payout --network bsc --escrow 0x… --keystore payer.json --password-file payer.pass
  farmesh payout --pause "an audit")");
  verb->callback([flags, settings, &run] {
    settings->fill();
    run = [flags] { return pay(*flags); };
  });
}

}  // namespace farmesh::cli
