#include "discovery/dht_settings.hpp"

#include <charconv>
#include <cstdint>

#include <libtorrent/alert_types.hpp>

namespace farmesh::discovery {
namespace {

constexpr int kItemLifetimeSeconds = 2 * 3600;
// A put first looks for the nodes closest to its key and waits 15 s for each that is dead; the
// usual 20 failures would keep the dead among them for minutes where nobody replaces them.
constexpr int kMaxFailures = 1;

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : ",") + part;
  return all;
}

}  // namespace

lt::settings_pack dht_settings(const DhtEngineOptions& options) {
  using Pack = lt::settings_pack;
  Pack settings;
  settings.set_str(Pack::listen_interfaces, joined(options.listen));
  // What libtorrent calls a bootstrap node is a router: asked when nobody else is known, never part
  // of the routing table, so that nobody stores anything there. Our entrances are ordinary nodes,
  // and in a small mesh the only ones that outlive the rest.
  settings.set_str(Pack::dht_bootstrap_nodes, joined(options.routers));
  settings.set_str(Pack::user_agent, "");
  settings.set_int(Pack::alert_mask, lt::alert_category::dht | lt::alert_category::dht_operation |
                                         lt::alert_category::status | lt::alert_category::error |
                                         lt::alert_category::stats |
                                         lt::alert_category::port_mapping);
  settings.set_int(Pack::alert_queue_size, 10'000);
  settings.set_bool(Pack::enable_dht, true);
  // No torrents here: nothing listens but the DHT.
  settings.set_bool(Pack::enable_incoming_tcp, false);
  settings.set_bool(Pack::enable_outgoing_tcp, false);
  settings.set_bool(Pack::enable_incoming_utp, false);
  settings.set_bool(Pack::enable_outgoing_utp, false);
  settings.set_bool(Pack::enable_lsd, false);
  settings.set_bool(Pack::enable_upnp, options.map_ports);
  settings.set_bool(Pack::enable_natpmp, options.map_ports);
  settings.set_bool(Pack::listen_system_port_fallback, false);
  settings.set_int(Pack::max_retry_port_bind, 0);
  settings.set_int(Pack::dht_upload_rate_limit, options.local ? 10'000'000 : 200'000);
  settings.set_int(Pack::dht_item_lifetime, kItemLifetimeSeconds);
  settings.set_int(Pack::dht_max_dht_items, 20'000);
  settings.set_int(Pack::dht_max_fail_count, kMaxFailures);
  settings.set_int(Pack::dht_max_torrents, 20'000);
  if (options.local) {  // rules that keep one address from being many nodes
    settings.set_bool(Pack::dht_restrict_routing_ips, false);
    settings.set_bool(Pack::dht_restrict_search_ips, false);
    settings.set_bool(Pack::dht_ignore_dark_internet, false);
    settings.set_bool(Pack::dht_enforce_node_id, false);
    settings.set_bool(Pack::dht_prefer_verified_node_ids, false);
    settings.set_int(Pack::dht_block_ratelimit, 100'000);
  }
  return settings;
}

std::vector<std::pair<std::string, int>> hosts_of(const std::vector<std::string>& addresses) {
  std::vector<std::pair<std::string, int>> hosts;
  for (const std::string& address : addresses) {
    const std::size_t colon = address.rfind(':');
    std::uint16_t port = 0;
    const char* const end = address.data() + address.size();
    if (colon == std::string::npos ||
        std::from_chars(address.data() + colon + 1, end, port).ptr != end) {
      continue;
    }
    std::string host = address.substr(0, colon);
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    hosts.emplace_back(std::move(host), port);
  }
  return hosts;
}

Result<std::uint16_t> await_port(lt::session& session, lt::socket_type_t kind) {
  constexpr int kAttempts = 200;  // of 10 ms
  std::string failure = "nothing was listened on in time";
  std::uint16_t port = 0;
  for (int attempt = 0; attempt < kAttempts && port == 0; ++attempt) {
    session.wait_for_alert(std::chrono::milliseconds(10));
    std::vector<lt::alert*> alerts;
    session.pop_alerts(&alerts);
    for (const lt::alert* alert : alerts) {
      if (const auto* up = lt::alert_cast<lt::listen_succeeded_alert>(alert)) {
        if (port == 0 && up->socket_type == kind) port = static_cast<std::uint16_t>(up->port);
      } else if (const auto* down = lt::alert_cast<lt::listen_failed_alert>(alert)) {
        failure = down->message();
      }
    }
  }
  if (port == 0) return {Errc::io_error, failure};
  return port;
}

}  // namespace farmesh::discovery
