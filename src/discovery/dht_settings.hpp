// libtorrent's settings of a DHT node, the same for our rendezvous and for torrents. For the two
// .cpp files that see libtorrent.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <libtorrent/settings_pack.hpp>

#include "discovery/dht_engine.hpp"

namespace farmesh::discovery {

/// With no torrents: nothing listens but the DHT.
lt::settings_pack dht_settings(const DhtEngineOptions& options);

/// Each "HOST:PORT" as libtorrent takes names.
std::vector<std::pair<std::string, int>> hosts_of(const std::vector<std::string>& addresses);

}  // namespace farmesh::discovery
