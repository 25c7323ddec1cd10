#include "discovery/dht.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include <asio/ip/address.hpp>
#include <asio/post.hpp>

#include "net/tcp_address.hpp"

namespace farmesh::discovery {
namespace {

const std::vector<std::string> kPublicEntrances{
    "router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401"};

bool is_private(const asio::ip::address_v4& address) {
  const auto bytes = address.to_bytes();
  return address.is_loopback() || bytes[0] == 10 || (bytes[0] == 172 && bytes[1] / 16 == 1) ||
         (bytes[0] == 192 && bytes[1] == 168) || (bytes[0] == 169 && bytes[1] == 254);
}

}  // namespace

bool is_local_address(const std::string& address) {
  const Result<net::HostPort> parsed = net::parse_address(address);
  if (!parsed) return false;
  std::error_code error;
  const asio::ip::address host = asio::ip::make_address(parsed->host, error);
  if (error) return parsed->host == "localhost";
  if (host.is_v4()) return is_private(host.to_v4());
  const asio::ip::address_v6 v6 = host.to_v6();
  return v6.is_loopback() || v6.is_link_local() || (v6.to_bytes()[0] & 0xfe) == 0xfc;
}

DhtEngineOptions engine_options(const DhtOptions& options) {
  DhtEngineOptions engine;
  const std::string port = ":" + std::to_string(options.port);
  if (options.host.empty()) {
    engine.listen = {"0.0.0.0" + port, "[::]" + port};
    // "Every address" leaves the machine's own out, which a bootstrap address may be.
    const auto on_loopback = [](const BootstrapAddress& one) {
      return one.dht.starts_with("127.");
    };
    if (std::any_of(options.bootstrap.begin(), options.bootstrap.end(), on_loopback)) {
      engine.listen.push_back("127.0.0.1" + port);
    }
  } else {
    engine.listen = {options.host + port};
  }
  for (const BootstrapAddress& address : options.bootstrap) {
    engine.bootstrap.push_back(address.dht);
  }
  if (options.public_dht) {
    engine.routers = kPublicEntrances;
  } else {
    const bool listens_locally = !options.host.empty() && is_local_address(options.host + port);
    engine.local =
        std::any_of(engine.bootstrap.begin(), engine.bootstrap.end(), is_local_address) ||
        (engine.bootstrap.empty() && listens_locally);
  }
  // No router stands between those of one network.
  engine.map_ports = options.map_ports && !engine.local && !options.host.starts_with("127.");
  return engine;
}

struct Dht::Impl : std::enable_shared_from_this<Impl> {
  explicit Impl(net::Executor e) : executor(std::move(e)) {}

  /// On libtorrent's thread.
  void wake() {
    if (waking.exchange(true)) return;
    asio::post(executor, [self = shared_from_this()] {
      self->waking = false;
      self->hand_over();
    });
  }

  void hand_over() {
    if (!engine) return;
    for (const DhtAnswer& answer : engine->take()) {
      const Listener to = listener;  // it may be replaced by what it is told
      if (const auto* peers = std::get_if<PeersFound>(&answer)) {
        if (to.on_peers) to.on_peers(peers->key, peers->addresses);
      } else if (const auto* found = std::get_if<ItemFound>(&answer)) {
        if (to.on_item && !found->item.value.empty()) to.on_item(found->item);
      } else if (const auto* stored = std::get_if<ItemStored>(&answer)) {
        if (to.on_stored) to.on_stored(stored->item, stored->copies);
      } else if (const auto* mapped = std::get_if<PortMapped>(&answer)) {
        if (on_mapped) on_mapped(*mapped);
      }
    }
  }

  net::Executor executor;
  std::atomic<bool> waking{false};
  Listener listener;
  std::function<void(const PortMapped&)> on_mapped;
  std::unique_ptr<DhtEngine> engine;
};

Dht::Dht(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Dht::~Dht() {
  impl_->listener = {};
  impl_->on_mapped = {};
  impl_->engine.reset();
}

Result<std::unique_ptr<Dht>> Dht::start(net::Executor executor, const DhtOptions& options) {
  auto impl = std::make_shared<Impl>(std::move(executor));
  auto engine = DhtEngine::start(engine_options(options));
  if (!engine) return engine.error();
  impl->engine = *std::move(engine);
  impl->engine->set_wake([weak = std::weak_ptr<Impl>(impl)] {
    if (const auto self = weak.lock()) self->wake();
  });
  return std::unique_ptr<Dht>(new Dht(std::move(impl)));
}

std::uint16_t Dht::port() const noexcept { return impl_->engine->port(); }
DhtTraffic Dht::traffic() { return impl_->engine->traffic(); }

void Dht::map_port(std::uint16_t port, std::function<void(const PortMapped&)> on_answer) {
  impl_->on_mapped = std::move(on_answer);
  impl_->engine->map_port(port);
}

void Dht::listen(Listener listener) { impl_->listener = std::move(listener); }
void Dht::rejoin() { impl_->engine->rejoin(); }
void Dht::announce(const RendezvousKey& key, std::uint16_t port) {
  impl_->engine->announce(key, port);
}
void Dht::find(const RendezvousKey& key) { impl_->engine->find(key); }
void Dht::put(const DhtItem& item) { impl_->engine->put(item); }
void Dht::get(const identity::PublicKey& key) { impl_->engine->get(key); }

}  // namespace farmesh::discovery
