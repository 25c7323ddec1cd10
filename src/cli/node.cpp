// farmesh node: serves layers of a model until it is told to stop.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Error.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>
#include <signal.h>

#include <farmesh/farmesh.hpp>

#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/layer_flags.hpp"
#include "cli/public_address.hpp"
#include "cli/registration.hpp"
#include "cli/settings.hpp"
#include "cli/signals.hpp"
#include "cli/stop_request.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "cli/wallet_proof.hpp"
#include "http/url.hpp"
#include "node/hardware.hpp"

namespace farmesh::cli {
namespace {

// A move to other layers is told so soon.
constexpr std::chrono::milliseconds kBetweenLooks{250};

struct NodeFlags {
  WeightFlags weights;
  IdentityFlags identity;
  DiscoveryFlags discovery;
  LayerFlags layers;
  bool head = false;
  std::vector<std::string> peers;
  std::string listen = "127.0.0.1:31330";
  std::optional<std::uint16_t> port;
  std::string advertise;
  std::uint32_t cache_tokens = 16'384;
  std::uint32_t max_remote_sessions = 128;
  std::uint64_t max_remote_tokens = 0;
  std::uint64_t max_unpaid_tokens = 1'000'000;
  RelayOptions relay;
  bool no_port_mapping = false;
  bool paid = false;
  bool open = false;
  std::vector<std::string> payers;
  int drain_seconds = 30;
  std::string location;
  std::string discovery_url;
  WalletFlags wallet;
};

Result<PeerOptions> options_of(const NodeFlags& flags) {
  PeerOptions options;
  options.folder = flags.weights.model;
  options.weights = flags.weights.hub.chosen();
  options.head = flags.head;
  options.peers = flags.peers;
  options.listen = flags.port ? fmt::format("0.0.0.0:{}", *flags.port) : flags.listen;
  options.precision = flags.weights.precision;
  options.kv = flags.weights.kv;
  options.numerics = flags.weights.numerics;
  options.device = flags.weights.device;
  options.threads = flags.weights.threads;
  options.pin_threads = flags.weights.pin_threads;
  options.model_id = flags.weights.model_id;
  options.cache_tokens = flags.cache_tokens;
  options.max_remote_sessions = flags.max_remote_sessions;
  options.max_remote_tokens = flags.max_remote_tokens;
  options.max_unpaid_tokens = flags.max_unpaid_tokens;
  // A wallet that is named wants to be paid.
  const bool earns = !flags.wallet.wallet.empty() || !flags.wallet.proof_file.empty();
  options.paid = flags.paid || (earns && !flags.open);
  options.payers = flags.payers;
  options.place = flags.location;
  const Result<IdentityOptions> identity = flags.identity.chosen();
  if (!identity) return identity.error();
  options.identity = *identity;
  options.discovery = flags.discovery.chosen();
  options.discovery.map_ports = !flags.no_port_mapping;
  options.relay = flags.relay;
  Result<std::string> address = public_address(flags.advertise, options.listen, options.discovery);
  if (!address) return address.error();
  options.advertise = *std::move(address);
  const Result<void> layers = flags.layers.apply_to(options, flags.drain_seconds);
  if (!layers) return layers.error();
  return options;
}

std::string text_of(Span layers, const Peer& peer) {
  if (layers.empty()) return "no layers";
  return fmt::format("layers {}:{} of {}", layers.begin, layers.end, peer.num_layers());
}

// The one line that programs read; docs/cli.md states it.
void print_listening(const Peer& peer, const PeerOptions& options) {
  std::string serves = text_of(peer.layers(), peer);
  if (options.head) serves += " and the head";
  fmt::print("listening on {} with {}, {}, model {}, node {}\n", peer.address(), serves,
             peer.numerics_class(), peer.model_hash().substr(0, 16), peer.node_id());
  std::fflush(stdout);
}

std::unique_ptr<Registration> register_at(const NodeFlags& flags, const PeerOptions& options,
                                          const Peer& peer,
                                          std::optional<evm::SignedStatement> wallet) {
  NodeFacts facts;
  facts.node_id = peer.node_id();
  facts.public_key = peer.public_key();
  facts.model_id = peer.model_id();
  facts.layers = peer.layers();
  facts.num_layers = peer.num_layers();
  facts.numerics_class = peer.numerics_class();
  facts.public_addr = options.advertise.empty() ? peer.address() : options.advertise;
  facts.location = flags.location;
  facts.hardware = node::detect_hardware();
  facts.wallet = std::move(wallet);
  facts.sign = [&peer](std::string_view domain, std::string_view message) {
    return peer.sign(domain, message);
  };
  const auto figures = [&peer] {
    const PeerStats stats = peer.stats();
    return NodeFigures{stats.sessions, stats.rows, stats.layer_us};
  };
  RegistrationOptions registration;
  registration.url = flags.discovery_url;
  registration.on_earnings = [](const Earnings& earnings) {
    fmt::print("{}\n", text_of(earnings));
    std::fflush(stdout);
  };
  return std::make_unique<Registration>(std::move(registration), std::move(facts), figures);
}

int serve(const NodeFlags& flags) {
  Result<PeerOptions> options = options_of(flags);
  if (!options) return report(options.error());
  if (!flags.discovery_url.empty()) {
    const Result<http::Url> url = http::parse_url(flags.discovery_url);
    if (!url) return report({Errc::config_invalid, "--discovery-url: " + url.error().detail});
  }

  StopRequest stop;
  options->on_loading = [bar = std::shared_ptr<ProgressBar>()](std::uint64_t done,
                                                               std::uint64_t all) mutable {
    if (!bar) bar = std::make_shared<ProgressBar>("loading");
    bar->update(done, all);
    if (done >= all) bar.reset();
  };
  std::atomic<bool> moved = false;
  if (options->choose_layers) {
    options->choose_layers->on_layers = [&moved](Span) { moved = true; };
  }
  Result<Peer> peer = Peer::start(*options);
  if (!peer) return report(peer.error());
  auto wallet = flags.wallet.proof(options->identity, peer->node_id());
  if (!wallet) return report(wallet.error());
  if (*wallet) {
    const Result<void> carried =
        peer->carry_wallet_statement(*evm::signed_statement_text(**wallet));
    if (!carried) return report(carried.error());
  }
  std::unique_ptr<Registration> registration;
  const auto enter_registry = [&] {
    registration.reset();  // of other layers
    if (!flags.discovery_url.empty()) registration = register_at(flags, *options, *peer, *wallet);
  };
  enter_registry();
  stop.ready();
  print_listening(*peer, *options);

  while (!stop.wait_for(kBetweenLooks)) {
    if (!moved.exchange(false)) continue;
    fmt::print("serving {}\n", text_of(peer->layers(), *peer));
    std::fflush(stdout);
    enter_registry();
  }
  registration.reset();  // first, so that nobody is sent here any more
  const std::uint32_t sessions = peer->stats().sessions;
  if (sessions > 0) {
    fmt::print(stderr, "farmesh: finishing {} sessions, for at most {} s; again to stop at once\n",
               sessions, flags.drain_seconds);
  }
  peer->stop(std::chrono::seconds(flags.drain_seconds));
  return kSuccess;
}

void add_reach_flags(CLI::App& verb, NodeFlags& flags) {
  verb.add_flag("--no-port-mapping", flags.no_port_mapping,
                "Ask no router for ports, by UPnP or NAT-PMP");
  add_option_with_default(verb, "--relay-sessions", flags.relay.sessions,
                          "Connections passed on to nodes that nobody can dial; 0: none", "N")
      ->check(CLI::Range(0, 10'000));
  add_option_with_default(verb, "--relay-mbps", flags.relay.megabits_per_second,
                          "Of all of them together", "MBIT/S")
      ->check(CLI::Range(0.01, 1e6));
  add_option_with_default(verb, "--relay-gb", flags.relay.gigabytes_per_day,
                          "Of all of them, in a day", "GB")
      ->check(CLI::Range(0.0, 1e6));
}

}  // namespace

void add_node(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<NodeFlags>();
  CLI::App* verb = program.add_subcommand("node", "Serve layers of a model to others");
  const auto settings = std::make_shared<Settings>(*verb);
  flags->weights.add_to(*verb);
  settings->from_environment(verb->get_option("--model")->required(false), {"FAR_NODE_MODEL"});
  settings->from_environment(verb->get_option("--precision"), {"FAR_NODE_DTYPE"});
  flags->identity.add_to_node(*verb);
  flags->discovery.add_to(*verb);
  flags->layers.add_to(*verb, *settings);
  verb->add_flag("--head", flags->head,
                 "Also run generation for clients without a head; their tokens are seen here");
  verb->add_option("--peer", flags->peers, "With --head: a peer for the other layers; repeatable")
      ->allow_extra_args(false)
      ->option_text("HOST:PORT");
  CLI::Option* listen = add_option_with_default(
      *verb, "--listen", flags->listen, "Where to listen; port 0 takes a free one", "HOST:PORT");
  settings->from_environment(
      verb->add_option("--port", flags->port, "Listen on this port of every address instead")
          ->check(CLI::Range(1, 65'535))
          ->excludes(listen)
          ->option_text("N"),
      {"FAR_NODE_PORT"});
  settings->from_environment(
      verb->add_option("--advertise", flags->advertise,
                       "Where others dial; default: as listened, or auto on every address")
          ->option_text("HOST[:PORT]"),
      {"FAR_NODE_PUBLIC_ADDR"});
  add_option_with_default(*verb, "--cache-tokens", flags->cache_tokens,
                          "KV cache over all sessions, in tokens", "N");
  add_option_with_default(*verb, "--max-remote-sessions", flags->max_remote_sessions,
                          "Sessions that one remote node may have open", "N")
      ->check(CLI::Range(1, 1'000'000));
  add_option_with_default(*verb, "--max-remote-tokens", flags->max_remote_tokens,
                          "KV cache promised to one remote node, in tokens; 0: all of it", "N");
  add_option_with_default(*verb, "--max-unpaid-tokens", flags->max_unpaid_tokens,
                          "Tokens an hour that one remote node gets for nothing; 0: any number",
                          "N");
  add_reach_flags(*verb, *flags);
  add_option_with_default(*verb, "--drain", flags->drain_seconds,
                          "Most seconds that open sessions may take to end", "SECONDS")
      ->check(CLI::Range(0, 86'400));
  verb->add_option("--location", flags->location, "Where it is, for people and routes")
      ->option_text("NAME");
  settings->from_environment(verb->add_option("--discovery-url", flags->discovery_url,
                                              "Registry to be listed in; default: none")
                                 ->option_text("URL"),
                             {"FAR_DISCOVERY_URL"});
  flags->wallet.add_to(*verb, *settings);
  CLI::Option* paid = verb->add_flag(
      "--paid", flags->paid, "Serve only what a signed grant pays for; the default with a wallet");
  verb->add_flag("--open", flags->open, "Serve what nobody pays for as well; the default without")
      ->excludes(paid);
  verb->add_option("--payer", flags->payers,
                   "Node id of a coordinator whose grants count; repeatable; default: anybody's")
      ->allow_extra_args(false)
      ->option_text("NODE-ID");
  verb->footer(R"(
Prints one line when it is ready: listening on HOST:PORT with layers A:B of N …
Without --layers it takes those that the mesh serves worst, as many as fit, and prints
serving layers A:B of N … each time that it has gone elsewhere.
SIGTERM or SIGINT: takes no new sessions, lets the open ones end. A second one stops at once.

Examples:
  farmesh node --model models/demo --bootstrap 203.0.113.7:31337
  farmesh node --model models/demo --layers 0:3 --listen 0.0.0.0:31330
  farmesh node --model models/demo --layers 0:8 --head --listen 127.0.0.1:0)");
  verb->callback([flags, settings, listen, &run] {
    const bool listens_as_told = listen->count() > 0;
    settings->fill();
    if (listens_as_told) flags->port.reset();  // a flag wins over the environment
    if (flags->weights.model.empty()) throw CLI::RequiredError("--model");
    run = [flags] { return serve(*flags); };
  });
}

}  // namespace farmesh::cli
