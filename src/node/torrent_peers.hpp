// Pieces of a model from those who have them, by BitTorrent: weights/ asks, discovery/ knows how.
#pragma once

#include <memory>
#include <optional>

#include <farmesh/discovery.hpp>

#include "node/own_identity.hpp"
#include "weights/piece_peers.hpp"

namespace farmesh::node {

/// Null where no mesh is to be found, and in a private mesh, whose weights are not for strangers.
/// Nothing is listened on before the first open().
std::shared_ptr<weights::PiecePeers> torrent_peers(const DiscoveryOptions& options,
                                                   const OwnIdentity& self,
                                                   std::optional<double> upload_mbps);

}  // namespace farmesh::node
