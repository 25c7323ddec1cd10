// farmesh discovery: an entrance to the DHT, and the registry of nodes over HTTP.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include <farmesh/farmesh.hpp>

#include "base/log.hpp"
#include "base/thread.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/http_flags.hpp"
#include "cli/ledger.hpp"
#include "cli/settings.hpp"
#include "cli/stop_request.hpp"
#include "cli/verbs.hpp"
#include "discovery/dht.hpp"
#include "discovery/directory.hpp"
#include "discovery/reach_desk.hpp"
#include "gateway/model_host.hpp"
#include "gateway/registry.hpp"
#include "http/server.hpp"
#include "net/runtime.hpp"
#include "net/tcp_address.hpp"
#include "node/hello.hpp"
#include "node/own_identity.hpp"

namespace farmesh::cli {
namespace {

constexpr std::chrono::seconds kLookEvery{10};  // for nodes that went silent
constexpr std::uint32_t kForgetEvery = 360;     // rounds of that: an hour

struct ServiceFlags {
  std::string listen = "127.0.0.1:8080";
  std::uint16_t dht_port = discovery::kDefaultDhtPort;
  std::string advertise;
  std::string swarm_listen;
  std::string mesh;  // empty: the token's, else the open one
  IdentityFlags identity;
  std::vector<std::string> bootstrap;
  std::string public_url;
  std::string ledger;
  std::string aliases;
  std::string wallet_domain = "farmesh";
  std::uint64_t chain_id = 56;
  HttpFlags http{.drain_seconds = 10};
};

bool is_every_address(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

/// "/ip4/203.0.113.7/tcp/31337": how the published examples write it.
std::string multiaddress(const std::string& host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  const bool v4 = !v6 && host.find_first_not_of("0123456789.") == std::string::npos;
  return fmt::format("/{}/{}/tcp/{}", v6 ? "ip6" : v4 ? "ip4" : "dns", host, port);
}

/// The DHT node of this process, what it knows of nodes where it is asked for that too, and the
/// thread they live on.
class Entrance {
 public:
  static Result<std::unique_ptr<Entrance>> open(const discovery::DhtOptions& options,
                                                const ServiceFlags& flags) {
    Result<node::OwnIdentity> self = node::own_identity(flags.identity.options);
    if (!self) return self.error();
    std::unique_ptr<Entrance> entrance(new Entrance(*std::move(self)));
    auto started = discovery::Dht::start(entrance->runtime_.executor(), options);
    if (!started) return started.error();
    entrance->dht_ = *std::move(started);
    if (flags.swarm_listen.empty()) return entrance;
    Result<void> listening;
    entrance->runtime_.run_blocking([&] { listening = entrance->answer_swarm(options, flags); });
    if (!listening) return listening.error();
    return entrance;
  }
  ~Entrance() {
    runtime_.run_blocking([this] {
      listener_.reset();
      for (const auto& connection : std::exchange(asking_, {})) connection->close();
      reach_.reset();
      directory_.reset();
      dht_.reset();
    });
  }

  std::uint16_t port() const noexcept { return dht_->port(); }
  /// Where `swarm` is answered; empty: nowhere.
  std::string swarm_address() const { return listener_ ? listener_->address() : std::string(); }
  /// The others may have been away when it greeted them.
  void rejoin() {
    runtime_.run_blocking([this] { dht_->rejoin(); });
  }

 private:
  using ConnectionPtr = std::shared_ptr<net::Connection>;

  explicit Entrance(node::OwnIdentity self) : self_(std::move(self)), runtime_(self_.credentials) {}

  Result<void> answer_swarm(const discovery::DhtOptions& options, const ServiceFlags& flags) {
    discovery::DirectoryOptions directory;
    if (!flags.mesh.empty()) {
      directory.mesh = flags.mesh;
    } else if (self_.credentials.mesh) {
      directory.mesh = self_.credentials.mesh->mesh_name();
    }
    directory.hello = node::client_hello(runtime_.node_id());
    directory_ = std::make_unique<discovery::Directory>(runtime_.tcp(), dht_.get(), directory);
    for (const discovery::BootstrapAddress& other : options.bootstrap) {
      if (!other.peer.empty()) directory_->add_contact(other.peer);
    }
    auto listening = runtime_.tcp().listen(
        flags.swarm_listen, [this](std::shared_ptr<net::Link> link) { welcome(std::move(link)); });
    if (!listening) return listening.error();
    listener_ = *std::move(listening);
    reach_.emplace(runtime_.tcp());
    directory_->start();
    return {};
  }

  void welcome(std::shared_ptr<net::Link> link) {
    net::Connection::Identity identity;
    identity.hello = [hello = node::client_hello(runtime_.node_id())] { return hello; };
    net::Connection::accept(
        std::move(link), runtime_.clock(), std::move(identity),
        [this](const ConnectionPtr& from, const wire::Frame& frame) { answer(from, frame); },
        [this](const ConnectionPtr& from, const Error&) { asking_.erase(from); },
        [this](const ConnectionPtr& ready) {
          if (listener_) asking_.insert(ready);
        });
  }

  void answer(const ConnectionPtr& from, const wire::Frame& frame) {
    if (!directory_ || frame.reply) return;
    if (frame.verb == wire::Verb::swarm) return directory_->answer(from, frame);
    if (frame.verb == wire::Verb::reach) return reach_->answer(from, frame);
    const std::string verb(name(frame.verb));
    static_cast<void>(from->reply_error(frame, {Errc::unsupported, "no " + verb + " here"}));
  }

  const node::OwnIdentity self_;
  net::Runtime runtime_;
  std::unique_ptr<discovery::Dht> dht_;
  std::unique_ptr<discovery::Directory> directory_;
  std::optional<discovery::ReachDesk> reach_;
  std::unique_ptr<net::Listener> listener_;
  std::set<ConnectionPtr> asking_;
};

/// What is done every few seconds, until it is destroyed.
class Rounds {
 public:
  Rounds(gateway::Registry& registry, Entrance& entrance)
      : thread_(start_thread("registry", [this, &registry, &entrance] {
          std::uint32_t round = 0;
          std::unique_lock lock(mutex_);
          while (!ended_.wait_for(lock, kLookEvery, [this] { return ending_; })) {
            lock.unlock();
            entrance.rejoin();
            Result<void> kept = registry.mark_stale();
            if (kept && round++ % kForgetEvery == 0) kept = registry.forget_strangers();
            if (!kept) log(LogLevel::warning, "registry", kept.error().to_string());
            lock.lock();
          }
        })) {}
  ~Rounds() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the above
};

Result<discovery::DhtOptions> dht_options(const ServiceFlags& flags, const std::string& host) {
  discovery::DhtOptions options;
  options.port = flags.dht_port;
  if (!is_every_address(host) && discovery::is_local_address(flags.listen)) options.host = host;
  for (const std::string& list : flags.bootstrap) {
    auto addresses = discovery::parse_bootstrap(list);
    if (!addresses) return addresses.error();
    for (auto& address : *addresses) options.bootstrap.push_back(std::move(address));
  }
  return options;
}

/// Where newcomers may begin: here, and at the entrances that this one knows.
Result<std::vector<std::string>> entrances(const ServiceFlags& flags, const std::string& host,
                                           const Entrance& entrance,
                                           const discovery::DhtOptions& dht) {
  std::vector<std::string> all;
  std::string known_as = is_every_address(host) ? std::string() : host;
  if (!flags.advertise.empty()) {
    const Result<net::HostPort> told = net::parse_address(flags.advertise);
    if (!told) return told.error();
    all.push_back(multiaddress(told->host, told->port));
    known_as = told->host;
  } else if (!known_as.empty()) {
    all.push_back(multiaddress(host, entrance.port()));
  } else {
    log(LogLevel::warning, "registry",
        "it listens on every address: without --advertise it cannot tell newcomers where it is");
  }
  const Result<net::HostPort> swarm = net::parse_address(entrance.swarm_address());
  if (swarm && !known_as.empty()) all.push_back(multiaddress(known_as, swarm->port));
  for (const discovery::BootstrapAddress& other : dht.bootstrap) {
    const Result<net::HostPort> parsed = net::parse_address(other.dht);
    if (parsed) all.push_back(multiaddress(parsed->host, parsed->port));
  }
  return all;
}

Result<gateway::RegistryOptions> registry_options(const ServiceFlags& flags) {
  gateway::RegistryOptions options;
  options.version = version();
  options.public_url = flags.public_url;
  options.wallet_domain = flags.wallet_domain;
  options.chain_id = flags.chain_id;
  if (flags.aliases.empty()) return options;
  auto read = gateway::read_aliases(flags.aliases);
  if (!read) return read.error();
  options.full_id = [aliases = *std::move(read)](const std::string& id) {
    const auto at = aliases.find(id);
    return at == aliases.end() ? id : at->second;
  };
  return options;
}

int discover(const ServiceFlags& flags) {
  const Result<net::HostPort> at = net::parse_address(flags.listen);
  if (!at) return report(at.error());
  const Result<discovery::DhtOptions> dht = dht_options(flags, at->host);
  if (!dht) return report(dht.error());
  Result<gateway::RegistryOptions> options = registry_options(flags);
  if (!options) return report(options.error());

  StopRequest stop;
  auto store = open_service_ledger(flags.ledger);
  if (!store) return report(store.error());
  auto entrance = Entrance::open(*dht, flags);
  if (!entrance) return report(entrance.error());
  auto nodes = entrances(flags, at->host, **entrance, *dht);
  if (!nodes) return report(nodes.error());
  options->bootstrap_nodes = *std::move(nodes);

  gateway::Registry registry(*std::move(options), *std::move(store));
  http::Router router;
  registry.add_routes(router);
  registry.add_service_routes(router);
  http::ServerOptions serving;
  serving.address = at->host;
  serving.port = at->port;
  flags.http.apply_to(serving);
  serving.on_finished = [&registry](const http::Finished& done) { registry.finished(done); };
  auto server = http::Server::start(std::move(router), serving);
  if (!server) return report(server.error());
  const Rounds rounds(registry, **entrance);

  flags.http.warn_if_plain("registry", at->host);
  if (const std::string swarm = (*entrance)->swarm_address(); !swarm.empty()) {
    log(LogLevel::info, "registry", "tells whom it knows at " + swarm);
  }
  stop.ready();
  const std::string host =
      at->host.find(':') == std::string::npos ? at->host : "[" + at->host + "]";
  fmt::print("listening on {}://{}:{} with DHT port {}\n", flags.http.scheme(), host,
             (*server)->port(), (*entrance)->port());
  std::fflush(stdout);
  stop.wait();
  (*server)->drain(std::chrono::seconds(flags.http.drain_seconds));
  return kSuccess;
}

void add_http_flags(CLI::App& verb, Settings& settings, ServiceFlags& flags) {
  add_option_with_default(verb, "--listen", flags.listen, "Where to serve HTTP; port 0: a free one",
                          "HOST:PORT");
  verb.add_option("--public-url", flags.public_url,
                  "How nodes are told to reach it; default: as they did")
      ->option_text("URL");
  flags.http.add_to(verb, settings);
}

}  // namespace

void add_discovery(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<ServiceFlags>();
  CLI::App* verb =
      program.add_subcommand("discovery", "An entrance to the mesh, and its registry of nodes");
  const auto settings = std::make_shared<Settings>(*verb);
  add_option_with_default(*verb, "--dht-port", flags->dht_port, "UDP; 0: a free one", "N");
  verb->add_option("--advertise", flags->advertise,
                   "Where others reach the DHT node; default: as listened")
      ->option_text("HOST:PORT");
  verb->add_option("--swarm-listen", flags->swarm_listen,
                   "Where nodes are told, over TCP, whom it knows; default: nowhere")
      ->option_text("HOST:PORT");
  verb->add_option("--mesh", flags->mesh,
                   "Whose nodes it knows; default far-mesh, or the join token's")
      ->option_text("NAME");
  flags->identity.add_to(*verb);
  settings->from_environment(
      verb->add_option("--bootstrap", flags->bootstrap,
                       "Other entrances of the mesh; several by commas, or repeated")
          ->allow_extra_args(false)
          ->option_text("ADDR[,ADDR]"),
      {"FAR_MESH_DHT_BOOTSTRAP", "DHT_BOOTSTRAP_NODES"});
  add_http_flags(*verb, *settings, *flags);
  settings->from_environment(
      verb->add_option("--ledger", flags->ledger,
                       "postgresql://… or a SQLite file; default: in the data folder")
          ->option_text("URL"),
      {"POSTGRES_URL", "DATABASE_URL"});
  verb->add_option("--aliases", flags->aliases, "JSON file: short id to full id")
      ->option_text("FILE");
  add_option_with_default(*verb, "--chain", flags->chain_id, "Chain of the wallets' statements",
                          "ID");
  add_option_with_default(*verb, "--domain", flags->wallet_domain,
                          "Network of the wallets' statements", "NAME");
  verb->footer(R"(
Prints one line when it is ready: listening on http://HOST:PORT with DHT port N
SIGTERM or SIGINT: takes no new requests, lets the running ones end. A second one stops at once.

Examples:
  farmesh discovery --listen 0.0.0.0:8080 --advertise 203.0.113.7:31337
  farmesh discovery --bootstrap boot.example.org:31337 --ledger postgresql://farmesh@db/farmesh)");
  verb->callback([flags, settings, &run] {
    settings->fill();
    run = [flags] { return discover(*flags); };
  });
}

}  // namespace farmesh::cli
