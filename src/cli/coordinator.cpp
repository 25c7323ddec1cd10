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
#include "base/secret_file.hpp"
#include "cli/chain_flags.hpp"
#include "cli/coordinator_model.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/http_flags.hpp"
#include "cli/hub_flags.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "cli/stop_request.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "evm/http_post.hpp"
#include "gateway/fallback.hpp"
#include "gateway/redis_state.hpp"
#include "http/server.hpp"
#include "ledger/store.hpp"
#include "weights/model_source.hpp"

namespace farmesh::cli {
namespace {

struct CoordinatorFlags {
  std::vector<std::string> models;
  ModelOptions model;  // but for folder, model_id and where it comes from
  SessionOptions session;
  HubFlags hub;
  IdentityFlags identity;
  DiscoveryFlags discovery;
  std::string aliases;
  std::string default_model;
  std::string price = "0.0001";
  std::string prompt_price = "0";

  std::string host = "127.0.0.1";
  std::uint16_t port = 8'100;
  HttpFlags http;

  std::string ledger;
  bool no_ledger = false;
  std::string public_budget = "0";
  std::string split = "layer_units";
  std::string redis;
  std::string shared_key;
  std::string name;
  gateway::UpstreamOptions upstream;  // the key but in a file
  std::string upstream_key;
  bool fallback_local = false;
  int fallback_after_seconds = 20;
  std::string prices;
  std::string tiers;
  std::string log_format = "text";
  ChainFlags chain;
  gateway::CoordinatorOptions options;
};

Result<Far> amount(const std::string& flag, const std::string& text) {
  const std::optional<Far> far = Far::parse(text);
  if (far && !far->is_negative()) return *far;
  return {Errc::config_invalid, flag + " wants a decimal such as 0.0001, not '" + text + "'"};
}

// "ID=DIR", an id at a hub, or a folder alone, whose name is the id.
std::pair<std::string, std::string> id_and_folder(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals != std::string::npos) return {text.substr(0, equals), text.substr(equals + 1)};
  if (weights::is_model_id(text)) return {text, text};
  std::filesystem::path folder = std::filesystem::path(text).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  return {folder.filename().string(), text};
}

// The mesh's model, with what answers in its stead where that is wanted.
Result<std::shared_ptr<gateway::Model>> with_fallback(const CoordinatorFlags& flags,
                                                      ModelOptions alone,
                                                      std::shared_ptr<gateway::Model> mesh) {
  if (alone.local) return mesh;
  std::shared_ptr<gateway::Model> fallback;
  if (flags.fallback_local) {
    alone.local = true;
    alone.peers.clear();
    alone.discovery = {};
    alone.identity = {};
    alone.remote_head = false;
    Result<DistributedModel> model = DistributedModel::open(alone);
    if (!model) return model.error();
    fallback = std::make_shared<CoordinatorModel>(*std::move(model), alone, flags.session);
  } else if (!flags.upstream.url.empty()) {
    gateway::UpstreamOptions upstream = flags.upstream;
    if (upstream.model.empty()) upstream.model = alone.model_id;
    while (upstream.url.ends_with('/')) upstream.url.pop_back();
    if (!flags.upstream_key.empty()) {
      const Result<std::string> key = read_secret_file(flags.upstream_key);
      if (!key) return key.error();
      upstream.key = key->substr(0, key->find_last_not_of(" \t\r\n") + 1);
    }
    fallback = std::make_shared<gateway::UpstreamModel>(std::move(upstream),
                                                        mesh->state().summary.num_layers);
  } else {
    return mesh;
  }
  gateway::FallbackOptions options;
  options.first_token = std::chrono::seconds(flags.fallback_after_seconds);
  return std::shared_ptr<gateway::Model>(
      std::make_shared<gateway::FallbackModel>(std::move(mesh), std::move(fallback), options));
}

Result<void> open_models(const CoordinatorFlags& flags, gateway::ModelHost& host) {
  const Result<Far> price = amount("--price", flags.price);
  if (!price) return price.error();
  const Result<Far> prompt_price = amount("--prompt-price", flags.prompt_price);
  if (!prompt_price) return prompt_price.error();
  if (*price > gateway::kMaxPrice || *prompt_price > gateway::kMaxPrice) {
    return {Errc::config_invalid,
            "a price above " + gateway::kMaxPrice.to_string() + " $FAR a token"};
  }
  auto prices = flags.prices.empty() ? gateway::Prices() : gateway::read_prices(flags.prices);
  if (!prices) return prices.error();
  for (const std::string& text : flags.models) {
    const auto [id, folder] = id_and_folder(text);
    ModelOptions options = flags.model;
    options.folder = folder;
    options.weights = flags.hub.chosen();
    options.model_id = id;
    // Each model has connections of its own, and a key is of one end of connections.
    if (const std::size_t earlier = host.models().size();
        earlier > 0 && !options.identity.key_file.empty()) {
      options.identity.key_file += "-" + std::to_string(earlier + 1);
    }
    ProgressBar bar("loading " + id);
    options.on_loading = [&bar](std::uint64_t done, std::uint64_t all) { bar.update(done, all); };
    // The door stands open before the mesh does: /ready tells when it is there.
    options.open_uncovered = !options.local;
    Result<DistributedModel> model = DistributedModel::open(options);
    if (!model) return model.error();
    auto mesh = std::make_shared<CoordinatorModel>(*std::move(model), options, flags.session);
    auto served = with_fallback(flags, std::move(options), std::move(mesh));
    if (!served) return served.error();
    const auto own = prices->find(id);
    host.add(own == prices->end()
                 ? gateway::HostedModelOptions{id, "", *price, *prompt_price}
                 : gateway::HostedModelOptions{id, "", own->second.token, own->second.prompt_token},
             *std::move(served));
    if (own != prices->end()) prices->erase(own);
  }
  if (!prices->empty()) {
    return {Errc::config_invalid,
            "--prices names a model that is not served: " + prices->begin()->first};
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

// What several coordinators share besides the ledger; nothing without --redis.
Result<void> open_shared_state(const CoordinatorFlags& flags,
                               gateway::CoordinatorOptions& options) {
  if (flags.redis.empty()) return {};
  auto address = gateway::RedisAddress::parse(flags.redis);
  if (!address) return address.error();
  if (flags.shared_key.empty()) {
    return {Errc::config_invalid, "--redis wants --shared-key FILE, the same at every coordinator"};
  }
  const Result<std::string> secret = read_secret_file(flags.shared_key);
  if (!secret) return secret.error();
  const auto key = gateway::shared_key(*secret);
  if (!key) return key.error();
  const auto redis = std::make_shared<gateway::Redis>(*std::move(address));
  // It may come and go later; at the start its absence is a mistake.
  if (const auto reply = redis->command({"PING"}); !reply) return reply.error();
  options.turns = std::make_shared<gateway::RedisSessionCache>(redis, *key);
  options.rate_limits = std::make_shared<gateway::RedisRateLimits>(redis, *key);
  options.requests = std::make_shared<gateway::RedisRequestBoard>(redis, *key);
  return {};
}

// Whose reservations are taken: no endpoint is asked before a wallet turns out to be a contract.
Result<void> place_escrow(ChainFlags chain, gateway::CoordinatorOptions& options) {
  if (chain.network.empty() && chain.chain_id == 0) {
    if (chain.escrow.empty()) return {};
    chain.network = "bsc";
  }
  auto chosen = chain.chosen();
  if (!chosen) return chosen.error();
  options.escrow = gateway::EscrowPlace{chosen->rpc.chain_id, chosen->escrow};
  options.registry.chain_id = chosen->rpc.chain_id;
  options.gatekeeper.contract_wallets =
      evm::contract_wallets(std::move(chosen->rpc), evm::http_post());
  return {};
}

// What it is called in the ledger: sessions of that name are closed when it starts again.
std::string ledger_name(const CoordinatorFlags& flags) {
  constexpr std::size_t kMaxBytes = 64;
  if (!flags.name.empty()) return flags.name.substr(0, kMaxBytes);
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  // Of several with port 0 none is known by its port.
  const std::string port = flags.port == 0 ? gateway::draw_id(4) : std::to_string(flags.port);
  return fmt::format("{}:{}", std::string_view(host).substr(0, kMaxBytes - 10), port);
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

// What is missing at the start, and why: nobody would look for it in /ready first.
void warn_if_uncovered(const gateway::ModelHost& host) {
  for (const auto& hosted : host.models()) {
    const gateway::ModelState state = hosted->model->state();
    if (gateway::is_covered(state)) continue;
    std::string why;
    for (const PeerStatus& peer : state.summary.peers) {
      if (peer.refused) why += "; " + peer.address + ": " + peer.refused->to_string();
    }
    log(LogLevel::warning, "gateway",
        "not every layer of " + hosted->options.id + " has a node yet" + why);
  }
}

http::ServerOptions server_options(const CoordinatorFlags& flags,
                                   gateway::Coordinator& coordinator) {
  http::ServerOptions options;
  options.address = flags.host;
  options.port = flags.port;
  flags.http.apply_to(options);
  options.max_long_requests =
      int(flags.options.queue.places + flags.options.queue.waiting);  // a thread each
  options.render = gateway::Coordinator::render;
  options.on_finished = [&coordinator](const http::Finished& finished) {
    coordinator.finished(finished);
  };
  return options;
}

int coordinate(CoordinatorFlags flags) {
  set_log_format(flags.log_format == "json" ? LogFormat::json : LogFormat::text);
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
  options.coordinator_id = ledger_name(flags);
  if (const Result<void> shared = open_shared_state(flags, options); !shared) {
    return report(shared.error());
  }
  if (const Result<void> placed = place_escrow(flags.chain, options); !placed) {
    return report(placed.error());
  }
  if (!flags.tiers.empty()) {
    auto tiers = gateway::read_tier_rules(flags.tiers);
    if (!tiers) return report(tiers.error());
    options.tiers = *std::move(tiers);
  }
  gateway::Coordinator coordinator(std::move(options), host, *std::move(store));
  auto server = http::Server::start(coordinator.router(), server_options(flags, coordinator));
  if (!server) return report(server.error());

  flags.http.warn_if_plain("gateway", flags.host);
  warn_if_uncovered(host);
  stop.ready();
  fmt::print("listening on {}://{}:{} with {} model{}, default {}\n", flags.http.scheme(),
             flags.host, (*server)->port(), host.models().size(),
             host.models().size() == 1 ? "" : "s", host.find("")->options.id);
  std::fflush(stdout);

  stop.wait();
  const auto live = coordinator.services().live.all().size();
  if (live > 0) {
    fmt::print(stderr, "farmesh: finishing {} requests, for at most {} s; again to stop at once\n",
               live, flags.http.drain_seconds);
  }
  (*server)->drain(std::chrono::seconds(flags.http.drain_seconds));
  return kSuccess;
}

void add_model_flags(CLI::App& verb, Settings& settings, CoordinatorFlags& flags) {
  verb.add_option("--model", flags.models,
                  "Folder in Hugging Face layout, or a model's id at a hub; repeatable")
      ->required()
      ->allow_extra_args(false)
      ->option_text("[ID=]DIR|ORG/NAME");
  flags.hub.add_to(verb);
  verb.add_option("--peer", flags.model.peers, "Peer that serves layers; repeat for each")
      ->allow_extra_args(false)
      ->option_text("HOST:PORT");
  verb.add_flag("--local", flags.model.local,
                "Hold every layer here; the default without --peer and --bootstrap");
  verb.add_flag("--remote-head", flags.model.remote_head,
                "Use a head that a peer offers; that peer sees the tokens");
  add_numerics_flags(verb, flags.model.precision, flags.model.kv, flags.model.numerics,
                     flags.model.device);
  add_thread_flags(verb, flags.model.threads, flags.model.pin_threads);
  add_activations_flag(verb, flags.session.activations);
  add_option_with_default(verb, "--max-draft", flags.options.max_draft,
                          "Tokens guessed ahead and verified in one step; the text is the same",
                          "N")
      ->check(CLI::Range(0, 16));
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
  verb.add_option("--tiers", flags.tiers, "JSON file: a tier to the nodes that may serve it")
      ->option_text("FILE");
  verb.add_option("--prices", flags.prices, "JSON file: a model's id to its own prices")
      ->option_text("FILE");
}

void add_http_flags(CLI::App& verb, Settings& settings, CoordinatorFlags& flags) {
  add_option_with_default(verb, "--host", flags.host, "Where to listen; :: takes IPv4 too",
                          "ADDRESS");
  settings.from_environment(
      add_option_with_default(verb, "--port", flags.port, "0 takes a free one", "PORT"), {"PORT"});
  gateway::FairQueueOptions& queue = flags.options.queue;
  add_option_with_default(verb, "--max-turns", queue.places, "Requests that generate at once", "N")
      ->check(CLI::Range(1, 10'000));
  add_option_with_default(verb, "--max-account-turns", queue.per_account,
                          "Requests of one account, generating and waiting", "N")
      ->check(CLI::Range(1, 10'000));
  add_option_with_default(verb, "--max-waiting", queue.waiting, "Requests that wait for that", "N")
      ->check(CLI::Range(0, 10'000));
  flags.http.add_to(verb, settings);
  add_option_with_default(verb, "--log-format", flags.log_format, "text or json", "NAME")
      ->check(CLI::IsMember({"text", "json"}));
}

void add_money_flags(CLI::App& verb, Settings& settings, CoordinatorFlags& flags) {
  settings.from_environment(
      verb.add_option("--ledger", flags.ledger,
                      "postgresql://… or a SQLite file; default: in the data folder")
          ->option_text("URL"),
      {"POSTGRES_URL", "DATABASE_URL"});
  settings.from_environment(
      verb.add_option("--redis", flags.redis,
                      "redis://[:PASSWORD@]HOST[:PORT], which several coordinators share")
          ->option_text("URL"),
      {"REDIS_URL"});
  verb.add_option("--shared-key", flags.shared_key,
                  "File of mode 0600 with the secret that they share; wanted with --redis")
      ->option_text("FILE");
  verb.add_option("--name", flags.name,
                  "Of this coordinator in the ledger; default: the host's name and the port")
      ->option_text("NAME");
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
  flags.chain.add_place_to(verb, settings);
  add_option_with_default(verb, "--split", flags.split, "layer_units or equal", "NAME")
      ->check(CLI::IsMember({"layer_units", "equal"}));
}

void add_fallback_flags(CLI::App& verb, CoordinatorFlags& flags) {
  CLI::Option* url = verb.add_option("--fallback-url", flags.upstream.url,
                                     "OpenAI-compatible server, such as https://HOST/v1, that "
                                     "answers when the mesh cannot; it sees the prompts")
                         ->option_text("URL");
  verb.add_option("--fallback-key", flags.upstream_key, "File of mode 0600 with its API key")
      ->needs(url)
      ->option_text("FILE");
  verb.add_option("--fallback-name", flags.upstream.model,
                  "The model's name there; default: its id")
      ->needs(url)
      ->option_text("NAME");
  verb.add_flag("--fallback-local", flags.fallback_local,
                "Hold every layer here too, for when the mesh cannot answer")
      ->excludes(url);
  add_option_with_default(verb, "--fallback-after", flags.fallback_after_seconds,
                          "The mesh's time for the first token, then", "SECONDS")
      ->check(CLI::Range(1, 3'600));
}

}  // namespace

void add_coordinator(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<CoordinatorFlags>();
  CLI::App* verb = program.add_subcommand("coordinator", "Serve models over HTTP");
  const auto settings = std::make_shared<Settings>(*verb);
  add_model_flags(*verb, *settings, *flags);
  add_http_flags(*verb, *settings, *flags);
  add_money_flags(*verb, *settings, *flags);
  add_fallback_flags(*verb, *flags);
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
