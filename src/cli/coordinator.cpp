// farmesh coordinator: the mesh's HTTP door, until it is told to stop.
#include "gateway/coordinator.hpp"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <farmesh/farmesh.hpp>
#include <farmesh/money.hpp>

#include "base/log.hpp"
#include "cli/coordinator_model.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "cli/stop_request.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "http/server.hpp"
#include "ledger/store.hpp"

namespace farmesh::cli {
namespace {

struct CoordinatorFlags {
  std::vector<std::string> models;
  ModelOptions model;  // but for folder and model_id
  IdentityFlags identity;
  DiscoveryFlags discovery;
  std::string aliases;
  std::string default_model;
  std::string price = "0.0001";
  std::string prompt_price = "0";

  std::string host = "127.0.0.1";
  std::uint16_t port = 8'100;
  std::string cert, key_file;
  std::vector<std::string> proxies;
  std::vector<std::string> origins;

  std::string ledger;
  bool no_ledger = false;
  std::string public_budget = "0";
  std::string split = "layer_units";
  gateway::CoordinatorOptions options;
  int drain_seconds = 30;
};

// The largest price of a token: a context of tokens stays far from what an amount can hold.
const Far kMaxPrice = Far::from_units(1'000 * Far::kUnitsPerFar);

Result<Far> amount(const std::string& flag, const std::string& text) {
  const std::optional<Far> far = Far::parse(text);
  if (far && !far->is_negative()) return *far;
  return {Errc::config_invalid, flag + " wants a decimal such as 0.0001, not '" + text + "'"};
}

// "ID=DIR", or a folder alone, whose name is the id.
std::pair<std::string, std::string> id_and_folder(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals != std::string::npos) return {text.substr(0, equals), text.substr(equals + 1)};
  std::filesystem::path folder = std::filesystem::path(text).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  return {folder.filename().string(), text};
}

Result<void> open_models(const CoordinatorFlags& flags, gateway::ModelHost& host) {
  const Result<Far> price = amount("--price", flags.price);
  if (!price) return price.error();
  const Result<Far> prompt_price = amount("--prompt-price", flags.prompt_price);
  if (!prompt_price) return prompt_price.error();
  if (*price > kMaxPrice || *prompt_price > kMaxPrice) {
    return {Errc::config_invalid, "a price above " + kMaxPrice.to_string() + " $FAR a token"};
  }
  for (const std::string& text : flags.models) {
    const auto [id, folder] = id_and_folder(text);
    ModelOptions options = flags.model;
    options.folder = folder;
    options.model_id = id;
    ProgressBar bar("loading " + id);
    options.on_loading = [&bar](std::uint64_t done, std::uint64_t all) { bar.update(done, all); };
    const bool local = options.local;
    Result<DistributedModel> model = DistributedModel::open(std::move(options));
    if (!model) return model.error();
    host.add({id, "", *price, *prompt_price},
             std::make_shared<CoordinatorModel>(*std::move(model), local));
  }
  if (!flags.aliases.empty()) {
    auto aliases = gateway::read_aliases(flags.aliases);
    if (!aliases) return aliases.error();
    host.set_aliases(*std::move(aliases));
  }
  return flags.default_model.empty() ? Result<void>() : host.set_default(flags.default_model);
}

Result<std::shared_ptr<ledger::Store>> open_store(const CoordinatorFlags& flags) {
  if (flags.no_ledger) return std::shared_ptr<ledger::Store>();
  return open_service_ledger(flags.ledger);
}

// As they were given, one by one.
std::vector<std::string> entrances(const CoordinatorFlags& flags) {
  std::vector<std::string> all;
  for (const std::string& list : flags.discovery.chosen().bootstrap) {
    std::istringstream addresses(list);
    for (std::string one; std::getline(addresses, one, ',');) all.push_back(one);
  }
  return all;
}

http::ServerOptions server_options(const CoordinatorFlags& flags,
                                   gateway::Coordinator& coordinator) {
  http::ServerOptions options;
  options.address = flags.host;
  options.port = flags.port;
  options.cert_file = flags.cert;
  options.key_file = flags.key_file;
  options.trusted_proxies = flags.proxies;
  options.cors.allowed_origins = flags.origins;
  options.max_long_requests =
      int(flags.options.queue.places + flags.options.queue.waiting);  // a thread each
  options.render = gateway::Coordinator::render;
  options.on_finished = [&coordinator](const http::Finished& finished) {
    coordinator.finished(finished);
  };
  return options;
}

int coordinate(CoordinatorFlags flags) {
  const Result<IdentityOptions> identity = flags.identity.chosen();
  if (!identity) return report(identity.error());
  flags.model.identity = *identity;
  flags.model.discovery = flags.discovery.chosen();
  const bool alone = flags.model.peers.empty() && !flags.model.discovery.enabled();
  flags.model.local = flags.model.local || (alone && !flags.model.remote_head);
  const Result<Far> budget = amount("--public-budget", flags.public_budget);
  if (!budget) return report(budget.error());

  StopRequest stop;
  gateway::ModelHost host;
  if (const Result<void> opened = open_models(flags, host); !opened) return report(opened.error());
  auto store = open_store(flags);
  if (!store) return report(store.error());

  gateway::CoordinatorOptions options = flags.options;
  options.version = version();
  options.public_budget = *budget;
  options.gatekeeper.open_to_public = !budget->is_zero();
  options.split = flags.split == "equal" ? SplitPolicy::equal : SplitPolicy::layer_units;
  options.registry.bootstrap_nodes = entrances(flags);
  options.coordinator_id = fmt::format("{}:{}", flags.host, flags.port).substr(0, 64);
  gateway::Coordinator coordinator(std::move(options), host, *std::move(store));
  auto server = http::Server::start(coordinator.router(), server_options(flags, coordinator));
  if (!server) return report(server.error());

  const bool loopback = flags.host == "127.0.0.1" || flags.host == "::1";
  if (flags.cert.empty() && !loopback && flags.proxies.empty()) {
    log(LogLevel::warning, "gateway",
        "plain HTTP on " + flags.host + ": prompts and keys travel unencrypted");
  }
  stop.ready();
  fmt::print("listening on {}://{}:{} with {} model{}, default {}\n",
             flags.cert.empty() ? "http" : "https", flags.host, (*server)->port(),
             host.models().size(), host.models().size() == 1 ? "" : "s", host.find("")->options.id);
  std::fflush(stdout);

  stop.wait();
  const auto live = coordinator.services().live.all().size();
  if (live > 0) {
    fmt::print(stderr, "farmesh: finishing {} requests, for at most {} s; again to stop at once\n",
               live, flags.drain_seconds);
  }
  (*server)->drain(std::chrono::seconds(flags.drain_seconds));
  return kSuccess;
}

void add_model_flags(CLI::App& verb, Settings& settings, CoordinatorFlags& flags) {
  verb.add_option("--model", flags.models, "Folder in Hugging Face layout; repeatable")
      ->required()
      ->allow_extra_args(false)
      ->option_text("[ID=]DIR");
  verb.add_option("--peer", flags.model.peers, "Peer that serves layers; repeat for each")
      ->allow_extra_args(false)
      ->option_text("HOST:PORT");
  verb.add_flag("--local", flags.model.local,
                "Hold every layer here; the default without --peer and --bootstrap");
  verb.add_flag("--remote-head", flags.model.remote_head,
                "Use a head that a peer offers; that peer sees the tokens");
  verb.add_option("--threads", flags.model.threads, "Threads that compute; default: every core")
      ->check(CLI::Range(0, 1'024))
      ->option_text("N");
  flags.identity.add_to(verb);
  flags.discovery.add_to(verb);
  verb.add_option("--aliases", flags.aliases, "JSON file: short id to full id")
      ->option_text("FILE");
  settings.from_environment(verb.add_option("--default-model", flags.default_model,
                                            "For requests that name none; default: the first")
                                ->option_text("ID"),
                            {"DEFAULT_MODEL_ID"});
  settings.from_environment(
      add_option_with_default(verb, "--price", flags.price, "$FAR a token", "FAR"),
      {"PRICE_PER_TOKEN_FAR"});
  add_option_with_default(verb, "--prompt-price", flags.prompt_price, "$FAR a prompt token", "FAR");
}

void add_http_flags(CLI::App& verb, Settings& settings, CoordinatorFlags& flags) {
  add_option_with_default(verb, "--host", flags.host, "Where to listen; :: takes IPv4 too",
                          "ADDRESS");
  settings.from_environment(
      add_option_with_default(verb, "--port", flags.port, "0 takes a free one", "PORT"), {"PORT"});
  verb.add_option("--tls-cert", flags.cert, "Certificate chain, PEM; default: plain HTTP")
      ->option_text("FILE");
  verb.add_option("--tls-key", flags.key_file, "Its key, PEM")->option_text("FILE");
  verb.add_option("--trusted-proxy", flags.proxies,
                  "Whose X-Forwarded-For counts: an address or A.B.C.D/N; repeatable")
      ->allow_extra_args(false)
      ->option_text("ADDRESS");
  settings.from_environment(
      verb.add_option("--allowed-origins", flags.origins, "Web pages that may call, or *")
          ->delimiter(',')
          ->option_text("ORIGIN,…"),
      {"ALLOWED_ORIGINS"});
  gateway::FairQueueOptions& queue = flags.options.queue;
  add_option_with_default(verb, "--max-turns", queue.places, "Requests that generate at once", "N")
      ->check(CLI::Range(1, 10'000));
  add_option_with_default(verb, "--max-waiting", queue.waiting, "Requests that wait for that", "N")
      ->check(CLI::Range(0, 10'000));
  add_option_with_default(verb, "--drain", flags.drain_seconds,
                          "Most seconds that requests may take to end", "SECONDS")
      ->check(CLI::Range(0, 86'400));
}

void add_money_flags(CLI::App& verb, Settings& settings, CoordinatorFlags& flags) {
  settings.from_environment(
      verb.add_option("--ledger", flags.ledger,
                      "postgresql://… or a SQLite file; default: in the data folder")
          ->option_text("URL"),
      {"POSTGRES_URL", "DATABASE_URL"});
  verb.add_flag("--no-ledger", flags.no_ledger, "No accounts and no bills: everybody is served");
  add_option_with_default(verb, "--public-budget", flags.public_budget,
                          "$FAR for requests without a key; 0: they are refused", "FAR");
  add_option_with_default(verb, "--public-rate", flags.options.gatekeeper.public_requests,
                          "Their requests an hour from one address; 0: any", "N");
  settings.from_environment(
      add_option_with_default(verb, "--platform-fee-bps", flags.options.platform_fee_bps,
                              "Of each price, in hundredths of a percent", "N")
          ->check(CLI::Range(0, 10'000)),
      {"PLATFORM_FEE_BPS"});
  add_option_with_default(verb, "--split", flags.split, "layer_units or equal", "NAME")
      ->check(CLI::IsMember({"layer_units", "equal"}));
}

}  // namespace

void add_coordinator(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<CoordinatorFlags>();
  CLI::App* verb = program.add_subcommand("coordinator", "Serve models over HTTP");
  const auto settings = std::make_shared<Settings>(*verb);
  add_model_flags(*verb, *settings, *flags);
  add_http_flags(*verb, *settings, *flags);
  add_money_flags(*verb, *settings, *flags);
  verb->footer(R"(
Prints one line when it is ready: listening on http://HOST:PORT with N models, default ID
SIGTERM or SIGINT: takes no new requests, lets the running ones end. A second one stops at once.

Examples:
  farmesh coordinator --model models/demo --no-ledger
  farmesh coordinator --model demo=models/demo --peer 10.0.0.7:31330 --peer 10.0.0.8:31330
  farmesh key create --url ledger.sqlite
  farmesh coordinator --model models/demo --ledger ledger.sqlite --public-budget 10)");
  verb->callback([flags, settings, &run] {
    settings->fill();
    run = [flags] { return coordinate(*flags); };
  });
}

}  // namespace farmesh::cli
