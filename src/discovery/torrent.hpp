// A model's torrent (BitTorrent v2, by libtorrent): gives others the pieces that a folder has, and
// brings pieces that it lacks into the same files.
//
// libtorrent proves a piece by the torrent's hashes once its bytes have been written; until it is
// told of, its place in the file may hold anything. Peers are found in the mesh's DHT.
// Threading: from one thread at a time, and blocks a moment; libtorrent has threads of its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "discovery/dht_engine.hpp"

namespace farmesh::discovery {

/// Pieces [first, end) of a file, which begins with a piece of its own.
struct TorrentRun {
  std::string file;
  std::size_t first = 0;
  std::size_t end = 0;
};

struct TorrentFolder {
  std::string metadata;  // a .torrent file's bytes
  std::filesystem::path path;
  std::vector<TorrentRun> have;    // believed
  std::vector<TorrentRun> wanted;  // none: it only gives
};

/// What is given to others; whatever their network, the own one too.
struct UploadLimit {
  std::optional<std::uint64_t> bytes_per_second;  // nothing: no limit; 0: nobody is given a piece
};

struct TorrentStatus {
  int peers = 0;
  std::uint64_t sent_bytes = 0;      // of pieces
  std::uint64_t received_bytes = 0;  // of pieces, proven or not
  std::string problem;               // why it stopped; empty where it did not
};

class Torrent {
 public:
  /// Listens on the DHT's port number, by UDP and TCP. Fails with io_error.
  static Result<std::unique_ptr<Torrent>> start(const DhtEngineOptions& options,
                                                const UploadLimit& limit = {});
  ~Torrent();

  std::uint16_t port() const noexcept;

  /// In place of what was open before, into whose files nothing is written any more once this
  /// returns. Fails with model_malformed (no v2 torrent, or one that lacks a piece named here),
  /// io_error.
  Result<void> open(const TorrentFolder& folder);

  /// Pieces that came since the last call; waits so long for the first.
  std::vector<TorrentRun> take(std::chrono::milliseconds patience);

  /// Tells the DHT, and asks it for peers, now instead of at the next minute.
  void announce();
  TorrentStatus status() const;

 private:
  struct Impl;
  explicit Torrent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::discovery
