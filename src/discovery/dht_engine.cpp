#include "discovery/dht_engine.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

// Boost 1.74's Asio forgets <utility> under C++20; it is above.
#include <libtorrent/alert_types.hpp>
#include <libtorrent/bencode.hpp>
#include <libtorrent/disabled_disk_io.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/session_stats.hpp>

#include "base/log.hpp"
#include "discovery/dht_settings.hpp"

namespace farmesh::discovery {
namespace {

/// Of those whose host is numeric: the DHT looks for its own place beginning at them.
std::vector<lt::udp::endpoint> endpoints_of(const std::vector<std::string>& addresses) {
  std::vector<lt::udp::endpoint> endpoints;
  for (const auto& [host, port] : hosts_of(addresses)) {
    lt::error_code error;
    const lt::address numeric = lt::make_address(host, error);
    if (!error) endpoints.emplace_back(numeric, static_cast<std::uint16_t>(port));
  }
  return endpoints;
}

std::string address_of(const lt::tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  const std::string port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

template <std::size_t N>
std::array<char, N> chars(const std::array<std::uint8_t, N>& bytes) {
  std::array<char, N> out;
  std::memcpy(out.data(), bytes.data(), N);
  return out;
}

template <std::size_t N>
std::array<std::uint8_t, N> octets(const std::array<char, N>& bytes) {
  std::array<std::uint8_t, N> out;
  std::memcpy(out.data(), bytes.data(), N);
  return out;
}

PeersFound peers_of(const lt::dht_get_peers_reply_alert& alert) {
  PeersFound found;
  std::memcpy(found.key.data(), alert.info_hash.data(), found.key.size());
  for (const lt::tcp::endpoint& endpoint : alert.peers()) {
    found.addresses.push_back(address_of(endpoint));
  }
  return found;
}

ItemFound item_of(const lt::dht_mutable_item_alert& alert) {
  ItemFound found;
  found.item.key = octets(alert.key);
  found.final = alert.authoritative;
  if (alert.item.type() != lt::entry::string_t) return found;
  found.item.sequence = alert.seq;
  found.item.signature = octets(alert.signature);
  found.item.value = alert.item.string();
  return found;
}

std::string transport_name(lt::portmap_transport transport) {
  return transport == lt::portmap_transport::upnp ? "UPnP" : "NAT-PMP";
}

struct Metrics {
  int bytes_in = lt::find_metric_idx("dht.dht_bytes_in");
  int bytes_out = lt::find_metric_idx("dht.dht_bytes_out");
  int packets_in = lt::find_metric_idx("dht.dht_messages_in");
  int packets_out = lt::find_metric_idx("dht.dht_messages_out");
  int dropped = lt::find_metric_idx("dht.dht_messages_out_dropped");
  int nodes = lt::find_metric_idx("dht.dht_nodes");
};

DhtTraffic traffic_of(const lt::session_stats_alert& alert) {
  static const Metrics metrics;
  const auto counters = alert.counters();
  const auto at = [&](int index) {
    return index < 0 ? 0 : static_cast<std::uint64_t>(counters[index]);
  };
  return {at(metrics.bytes_in),    at(metrics.bytes_out), at(metrics.packets_in),
          at(metrics.packets_out), at(metrics.dropped),   at(metrics.nodes)};
}

}  // namespace

struct DhtEngine::Impl {
  explicit Impl(lt::session_params params) : session(std::move(params)) {}

  lt::session session;
  std::vector<std::pair<std::string, int>> bootstrap;
  std::uint16_t port = 0;
  std::mutex mutex;  // of what follows: take() and traffic() may be called from several threads
  DhtTraffic traffic;
  std::map<lt::port_mapping_t, std::uint16_t> mapped;  // local ports that were asked for
};

DhtEngine::DhtEngine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DhtEngine::~DhtEngine() {
  impl_->session.set_alert_notify([] {});
}

Result<std::unique_ptr<DhtEngine>> DhtEngine::start(const DhtEngineOptions& options) {
  lt::session_params params(dht_settings(options), {});
  for (const lt::udp::endpoint& node : endpoints_of(options.bootstrap)) {
    (node.address().is_v6() ? params.dht_state.nodes6 : params.dht_state.nodes).push_back(node);
  }
  params.disk_io_constructor = lt::disabled_disk_io_constructor;
  auto impl = std::make_unique<Impl>(std::move(params));
  impl->bootstrap = hosts_of(options.bootstrap);
  const auto port = await_port(impl->session, lt::socket_type_t::utp);
  if (!port) return Error{port.error().code, "the DHT cannot listen: " + port.error().detail};
  impl->port = *port;
  auto engine = std::unique_ptr<DhtEngine>(new DhtEngine(std::move(impl)));
  engine->rejoin();
  return engine;
}

std::uint16_t DhtEngine::port() const noexcept { return impl_->port; }

void DhtEngine::rejoin() {
  for (const auto& node : impl_->bootstrap) impl_->session.add_dht_node(node);
}

void DhtEngine::announce(const RendezvousKey& key, std::uint16_t port) {
  impl_->session.dht_announce(lt::sha1_hash(reinterpret_cast<const char*>(key.data())), port);
}

void DhtEngine::find(const RendezvousKey& key) {
  impl_->session.dht_get_peers(lt::sha1_hash(reinterpret_cast<const char*>(key.data())));
}

void DhtEngine::put(const DhtItem& item) {
  impl_->session.dht_put_item(chars(item.key),
                              [item](lt::entry& value, std::array<char, 64>& signature,
                                     std::int64_t& sequence, const std::string&) {
                                value = item.value;
                                signature = chars(item.signature);
                                sequence = item.sequence;
                              });
}

void DhtEngine::get(const identity::PublicKey& key) { impl_->session.dht_get_item(chars(key)); }

void DhtEngine::map_port(std::uint16_t port) {
  const std::lock_guard lock(impl_->mutex);
  for (const lt::port_mapping_t mapping :
       impl_->session.add_port_mapping(lt::portmap_protocol::tcp, port, port)) {
    impl_->mapped[mapping] = port;
  }
}

void DhtEngine::set_wake(std::function<void()> wake) { impl_->session.set_alert_notify(wake); }

std::vector<DhtAnswer> DhtEngine::take() {
  const std::lock_guard lock(impl_->mutex);
  std::vector<lt::alert*> alerts;
  impl_->session.pop_alerts(&alerts);
  std::vector<DhtAnswer> answers;
  for (const lt::alert* alert : alerts) {
    if (const auto* peers = lt::alert_cast<lt::dht_get_peers_reply_alert>(alert)) {
      answers.emplace_back(peers_of(*peers));
    } else if (const auto* item = lt::alert_cast<lt::dht_mutable_item_alert>(alert)) {
      answers.emplace_back(item_of(*item));
    } else if (const auto* put = lt::alert_cast<lt::dht_put_alert>(alert)) {
      answers.emplace_back(ItemStored{
          {octets(put->public_key), put->seq, octets(put->signature), {}}, put->num_success});
    } else if (const auto* mapped = lt::alert_cast<lt::portmap_alert>(alert)) {
      const auto asked = impl_->mapped.find(mapped->mapping);
      if (asked == impl_->mapped.end() || mapped->map_protocol != lt::portmap_protocol::tcp)
        continue;
      answers.emplace_back(PortMapped{asked->second,
                                      static_cast<std::uint16_t>(mapped->external_port),
                                      transport_name(mapped->map_transport)});
    } else if (const auto* unmapped = lt::alert_cast<lt::portmap_error_alert>(alert)) {
      const auto asked = impl_->mapped.find(unmapped->mapping);
      if (asked == impl_->mapped.end()) continue;
      answers.emplace_back(
          PortMapped{asked->second, 0,
                     transport_name(unmapped->map_transport) + ": " + unmapped->error.message()});
    } else if (const auto* stats = lt::alert_cast<lt::session_stats_alert>(alert)) {
      impl_->traffic = traffic_of(*stats);
    }
  }
  return answers;
}

DhtTraffic DhtEngine::traffic() {
  impl_->session.post_session_stats();
  const std::lock_guard lock(impl_->mutex);
  return impl_->traffic;
}

}  // namespace farmesh::discovery
