#include "cli/model_publish.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "base/digest.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/stop_request.hpp"
#include "cli/terminal.hpp"
#include "discovery/dht.hpp"
#include "discovery/torrent.hpp"
#include "model/manifest.hpp"
#include "model/model_hash.hpp"
#include "node/mesh.hpp"

namespace farmesh::cli {
namespace {

constexpr std::chrono::seconds kAnnounceEvery{60};
constexpr std::chrono::seconds kYoung{10};  // then the DHT may be asked in vain: every second
constexpr std::chrono::milliseconds kLook{1'000};

struct PublishFlags {
  std::string folder;
  std::string out;
  bool only_manifest = false;
  model::ManifestOptions manifest;
  DiscoveryFlags discovery;
  std::optional<double> seed_mbps;
};

Result<void> write_manifest(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::path draft = path;
  draft += ".new";
  std::ofstream out(draft, std::ios::binary | std::ios::trunc);
  out << bytes;
  out.close();
  std::error_code failed;
  if (out) std::filesystem::rename(draft, path, failed);
  if (!out || failed) {
    return {Errc::io_error, path.string() + " cannot be written: name another place with --out"};
  }
  return {};
}

int seed(const PublishFlags& flags, const model::Manifest& manifest, StopRequest& stop) {
  auto dht = node::dht_options(flags.discovery.chosen(), "");
  if (!dht) return report(dht.error());
  dht->map_ports = true;
  discovery::UploadLimit limit;
  if (flags.seed_mbps)
    limit.bytes_per_second = static_cast<std::uint64_t>(*flags.seed_mbps * 1e6 / 8);
  auto torrent = discovery::Torrent::start(discovery::engine_options(*dht), limit);
  if (!torrent) return report(torrent.error());
  discovery::TorrentFolder folder{
      manifest.encode(), std::filesystem::absolute(flags.folder), {}, {}};
  for (const model::ManifestFile& file : manifest.files) {
    folder.have.push_back({file.name, 0, file.pieces.size()});
  }
  const Result<void> opened = (*torrent)->open(folder);
  if (!opened) return report(opened.error());
  stop.ready();
  fmt::print("seeding at port {}\n", (*torrent)->port());
  std::fflush(stdout);
  const auto begun = std::chrono::steady_clock::now();
  auto announced = begun;
  while (!stop.wait_for(kLook)) {
    const auto now = std::chrono::steady_clock::now();
    if (now - begun < kYoung || now - announced >= kAnnounceEvery) {
      (*torrent)->announce();
      announced = now;
    }
    (*torrent)->take(std::chrono::milliseconds(0));
    const discovery::TorrentStatus status = (*torrent)->status();
    if (!status.problem.empty()) return report({Errc::io_error, status.problem});
  }
  const discovery::TorrentStatus status = (*torrent)->status();
  fmt::print(stderr, "farmesh: gave {} in pieces\n", human_bytes(status.sent_bytes));
  return kSuccess;
}

int publish(const PublishFlags& flags) {
  StopRequest stop;
  const auto manifest = model::make_manifest(flags.folder, flags.manifest);
  if (!manifest) return report(manifest.error());
  const std::filesystem::path path =
      flags.out.empty() ? std::filesystem::path(flags.folder) / model::kManifestName
                        : std::filesystem::path(flags.out);
  const Result<void> written = write_manifest(path, manifest->encode());
  if (!written) return report(written.error());
  fmt::print("model {}\nmanifest {}\n{}\n", model::to_hex(manifest->model_hash()), path.string(),
             manifest->magnet());
  std::fflush(stdout);
  return flags.only_manifest ? static_cast<int>(kSuccess) : seed(flags, *manifest, stop);
}

}  // namespace

void add_publish(CLI::App& model, Run& run) {
  const auto flags = std::make_shared<PublishFlags>();
  CLI::App* verb = model.add_subcommand(
      "publish", "Make a model's manifest, and give its pieces to those who ask");
  verb->add_option("folder", flags->folder, "Folder in Hugging Face layout")
      ->required()
      ->option_text("DIR");
  verb->add_option("--out", flags->out, "The manifest's file; default: DIR/farmesh.torrent")
      ->option_text("FILE");
  verb->add_flag("--only-manifest", flags->only_manifest, "Make the manifest, and end");
  add_option_with_default(*verb, "--revision", flags->manifest.name,
                          "Name of this version, as a hub has it", "NAME");
  verb->add_option("--web-seed", flags->manifest.web_seeds,
                   "Hub's address before the revision: HUB/ORG/NAME/resolve/; repeatable")
      ->allow_extra_args(false)
      ->option_text("URL");
  DiscoveryOptions& discovery = flags->discovery.options;
  verb->add_option("--bootstrap", discovery.bootstrap,
                   "Where to find the mesh; several by commas, or repeated")
      ->allow_extra_args(false)
      ->option_text("ADDR[,ADDR]");
  verb->add_option("--port", discovery.dht_port, "UDP and TCP; default: a free one")
      ->option_text("N");
  verb->add_option("--seed-mbps", flags->seed_mbps, "Of what is given; default: no limit")
      ->check(CLI::Range(0.1, 1e5))
      ->option_text("MBIT/S");
  verb->add_flag("--public-dht", discovery.public_dht, "Be found in BitTorrent's DHT as well");
  verb->callback([flags, &run] { run = [flags] { return publish(*flags); }; });
}

}  // namespace farmesh::cli
