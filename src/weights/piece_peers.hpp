// Others who have pieces of a model, such as a torrent's swarm, and how pieces come from them.
//
// Takes wanted pieces and a PieceStore, gives what is still lacking.
// Threading: from one thread at a time; blocks.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "model/manifest.hpp"
#include "weights/download.hpp"
#include "weights/piece_store.hpp"

namespace farmesh::weights {

class PiecePeers {
 public:
  virtual ~PiecePeers() = default;

  /// From now on, in place of what was open before, gives the pieces that `folder` has, and brings
  /// those that are wanted into its files. With none wanted nothing is written there any more.
  virtual Result<void> open(const std::string& metadata, const std::filesystem::path& folder,
                            const std::vector<PieceRun>& have,
                            const std::vector<PieceRun>& wanted) = 0;
  /// Pieces that came since the last call; waits so long for the first.
  virtual std::vector<PieceRun> take(std::chrono::milliseconds patience) = 0;
  virtual bool has_peers() const = 0;
};

struct PeerPatience {
  std::chrono::milliseconds for_peers{5'000};    // while nobody is there
  std::chrono::milliseconds for_pieces{15'000};  // while somebody is, and no piece comes
};

/// Brings what peers have of `wanted`, each piece proven anew from its file before it counts; then
/// goes on giving what there is. What nobody gave is lacking afterwards, and is no failure. Fails
/// with disk_full, io_error.
Result<void> fetch_from_peers(PiecePeers& peers, PieceStore& store, const model::Manifest& manifest,
                              const std::vector<PieceRun>& wanted, const DownloadOptions& options,
                              const PeerPatience& patience = {});

}  // namespace farmesh::weights
