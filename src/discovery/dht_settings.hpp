// What libtorrent's sessions have in common, of our rendezvous and of torrents: the settings of a
// DHT node, and where it listens. For the .cpp files that see libtorrent.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <libtorrent/session.hpp>
#include <libtorrent/settings_pack.hpp>
#include <libtorrent/socket_type.hpp>

#include <farmesh/result.hpp>

#include "discovery/dht_engine.hpp"

namespace farmesh::discovery {

/// With no torrents: nothing listens but the DHT.
lt::settings_pack dht_settings(const DhtEngineOptions& options);

/// Each "HOST:PORT" as libtorrent takes names.
std::vector<std::pair<std::string, int>> hosts_of(const std::vector<std::string>& addresses);

/// Where a fresh session listens with sockets of that kind. Alerts of until then are dropped. Fails
/// with io_error after two seconds.
Result<std::uint16_t> await_port(lt::session& session, lt::socket_type_t kind);

}  // namespace farmesh::discovery
