#include "node/torrent_peers.hpp"

#include <chrono>
#include <utility>

#include "base/log.hpp"
#include "discovery/torrent.hpp"
#include "node/mesh.hpp"

namespace farmesh::node {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kAnnounceEvery{1};  // while nobody is there

std::vector<discovery::TorrentRun> torrent_runs(const std::vector<weights::PieceRun>& runs) {
  std::vector<discovery::TorrentRun> all;
  for (const weights::PieceRun& run : runs) all.push_back({run.file, run.first, run.end});
  return all;
}

class TorrentPeers final : public weights::PiecePeers {
 public:
  TorrentPeers(DiscoveryOptions options, discovery::UploadLimit limit)
      : options_(std::move(options)), limit_(limit) {}

  Result<void> open(const std::string& metadata, const std::filesystem::path& folder,
                    const std::vector<weights::PieceRun>& have,
                    const std::vector<weights::PieceRun>& wanted) override {
    if (!torrent_) {
      Result<discovery::DhtOptions> dht = dht_options(options_, "");
      if (!dht) return dht.error();
      dht->map_ports = options_.map_ports;
      auto started = discovery::Torrent::start(discovery::engine_options(*dht), limit_);
      if (!started) return started.error();
      torrent_ = *std::move(started);
      log(LogLevel::info, "weights",
          "pieces of models are exchanged at port " + std::to_string(torrent_->port()));
    }
    announced_ = {};
    return torrent_->open({metadata, folder, torrent_runs(have), torrent_runs(wanted)});
  }

  std::vector<weights::PieceRun> take(std::chrono::milliseconds patience) override {
    if (!has_peers() && Clock::now() - announced_ >= kAnnounceEvery) {
      torrent_->announce();
      announced_ = Clock::now();
    }
    std::vector<weights::PieceRun> all;
    for (discovery::TorrentRun& run : torrent_->take(patience)) {
      all.push_back({std::move(run.file), run.first, run.end});
    }
    return all;
  }

  bool has_peers() const override { return torrent_->status().peers > 0; }

 private:
  const DiscoveryOptions options_;
  const discovery::UploadLimit limit_;
  std::unique_ptr<discovery::Torrent> torrent_;
  Clock::time_point announced_;
};

}  // namespace

std::shared_ptr<weights::PiecePeers> torrent_peers(const DiscoveryOptions& options,
                                                   const OwnIdentity& self,
                                                   std::optional<double> upload_mbps) {
  if (self.credentials.mesh || (options.bootstrap.empty() && !options.public_dht)) return nullptr;
  DiscoveryOptions own = options;
  own.dht_port = 0;  // the other one is the mesh's
  discovery::UploadLimit limit;
  if (upload_mbps) limit.bytes_per_second = static_cast<std::uint64_t>(*upload_mbps * 1e6 / 8);
  return std::make_shared<TorrentPeers>(std::move(own), limit);
}

}  // namespace farmesh::node
