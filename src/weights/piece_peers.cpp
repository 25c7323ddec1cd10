#include "weights/piece_peers.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"

namespace farmesh::weights {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{200};

/// What the folder has of the manifest's files.
std::vector<PieceRun> present(const PieceStore& store, const model::Manifest& manifest) {
  std::vector<PieceRun> runs;
  for (const model::ManifestFile& file : manifest.files) {
    for (std::size_t piece = 0; piece < file.pieces.size(); ++piece) {
      if (!store.has(file.name, piece)) continue;
      const bool goes_on =
          !runs.empty() && runs.back().file == file.name && runs.back().end == piece;
      if (goes_on) {
        ++runs.back().end;
      } else {
        runs.push_back({file.name, piece, piece + 1});
      }
    }
  }
  return runs;
}

class Exchange {
 public:
  Exchange(PiecePeers& peers, PieceStore& store, const model::Manifest& manifest,
           DownloadProgress progress, const DownloadOptions& options)
      : peers_(peers), store_(store), manifest_(manifest), progress_(progress), options_(options) {}

  Result<void> run(std::size_t lacking, const PeerPatience& patience) {
    const auto begun = Clock::now();
    auto last = begun;
    auto saved = begun;
    bool met = false;
    while (lacking > 0) {
      for (PieceRun& run : peers_.take(kLook)) come_.push_back(std::move(run));
      const std::size_t taken = adopt();
      lacking -= std::min(lacking, taken);
      met = met || peers_.has_peers();
      const auto now = Clock::now();
      if (taken > 0) last = now;
      if (options_.on_progress) options_.on_progress(progress_);
      if (now - saved >= options_.save_every) {
        if (const Result<void> kept = store_.save(); !kept) return kept;
        saved = now;
      }
      const bool alone = !met && now - begun >= patience.for_peers;
      if (alone || (met && now - last >= patience.for_pieces)) break;
    }
    return store_.save();
  }

 private:
  /// What came is still on its way to the file, perhaps: then it is looked at again.
  std::size_t adopt() {
    std::size_t taken = 0;
    std::erase_if(come_, [&](const PieceRun& run) {
      const model::ManifestFile* const file = manifest_.find(run.file);
      if (file == nullptr || store_.has(run.file, run.first)) return true;
      const std::uint64_t begin = run.first * store_.piece_bytes();
      const std::uint64_t size = store_.bytes_of(run.file, run.first);
      const Result<std::string> bytes = store_.read(run.file, begin, begin + size);
      if (!bytes || !manifest_.proves(*file, run.first, as_view(*bytes))) return false;
      if (!store_.adopt(run.file, run.first)) return false;
      progress_.done_bytes += size;
      ++taken;
      return true;
    });
    return taken;
  }

  PiecePeers& peers_;
  PieceStore& store_;
  const model::Manifest& manifest_;
  DownloadProgress progress_;
  const DownloadOptions& options_;
  std::vector<PieceRun> come_;  // of one piece each, not yet seen in their files
};

}  // namespace

Result<void> fetch_from_peers(PiecePeers& peers, PieceStore& store, const model::Manifest& manifest,
                              const std::vector<PieceRun>& wanted, const DownloadOptions& options,
                              const PeerPatience& patience) {
  const std::vector<PieceRun> runs = missing(store, wanted);
  if (runs.empty()) return {};
  const Result<DownloadProgress> progress = plan(store, wanted, options);
  if (!progress) return progress.error();
  const std::string metadata = manifest.encode();
  const Result<void> opened = peers.open(metadata, store.folder(), present(store, manifest), runs);
  if (!opened) return opened;
  std::size_t lacking = 0;
  for (const PieceRun& run : runs) lacking += run.end - run.first;
  const Result<void> ran =
      Exchange(peers, store, manifest, *progress, options).run(lacking, patience);
  // Before anybody else writes: a peer's last bytes may be on their way, proven by nobody yet.
  const Result<void> gives = peers.open(metadata, store.folder(), present(store, manifest), {});
  return ran ? gives : ran;
}

}  // namespace farmesh::weights
