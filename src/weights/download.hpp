// Brings pieces of files from a hub into a PieceStore: several connections at once, each piece
// proven before it is written where there is a manifest, and gone on with where one broke off.
//
// Threading: blocks; runs its own threads meanwhile.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>
#include <farmesh/weights.hpp>

#include "model/manifest.hpp"
#include "weights/hub.hpp"
#include "weights/piece_store.hpp"

namespace farmesh::weights {

/// Pieces [first, end) of a file that was begun in the store.
struct PieceRun {
  std::string file;
  std::size_t first = 0;
  std::size_t end = 0;
};

struct DownloadOptions {
  int connections = 4;
  std::uint64_t request_bytes = 16 << 20;  // of one range, about
  int tries = 5;                           // without a new piece
  std::chrono::milliseconds pause{250};    // before the second; then twice as long each time
  std::chrono::milliseconds save_every{1'000};
  std::uint64_t spare_bytes = 64 << 20;                      // of the file system, that stay free
  std::function<void(const DownloadProgress&)> on_progress;  // on the calling thread
};

/// What of `wanted` the store lacks, each piece once, in order.
std::vector<PieceRun> missing(const PieceStore& store, std::vector<PieceRun> wanted);

/// What fetching that means in bytes, with what is there before. Fails with disk_full.
Result<DownloadProgress> plan(const PieceStore& store, const std::vector<PieceRun>& wanted,
                              const DownloadOptions& options);

/// `manifest` may be null. The store is saved whatever the outcome. Fails as Hub::range(), and with
/// disk_full before anything is asked for, weights_damaged, hub_changed, io_error.
Result<void> download(Hub& hub, PieceStore& store, const model::Manifest* manifest,
                      const std::vector<PieceRun>& wanted, const DownloadOptions& options);

}  // namespace farmesh::weights
