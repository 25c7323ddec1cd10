#include "cli/hub_flags.hpp"

#include <memory>

#include <CLI/Validators.hpp>

#include "cli/terminal.hpp"

namespace farmesh::cli {

void HubFlags::add_to(CLI::App& verb) {
  verb.add_option("--hub", options.hub,
                  "Where a model lies that --model names by an id; default: Hugging Face's")
      ->option_text("URL");
  verb.add_option("--revision", options.revision, "Its branch, tag or commit there")
      ->option_text("NAME [main]");
  verb.add_option("--manifest", options.manifest,
                  "Its manifest; default: farmesh.torrent beside it at the hub")
      ->option_text("FILE");
  verb.add_option("--model-hash", options.model_hash,
                  "Its hash, as others tell it; needed where there is no manifest")
      ->option_text("HASH");
  verb.add_option("--seed-mbps", options.upload_mbps,
                  "Of its pieces that are given to other nodes; 0: none; default: no limit")
      ->check(CLI::Range(0.0, 1e5))
      ->option_text("MBIT/S");
}

WeightsOptions HubFlags::chosen() const {
  WeightsOptions chosen = options;
  chosen.on_download = [bar = std::shared_ptr<ProgressBar>()](const DownloadProgress& now) mutable {
    if (!bar) bar = std::make_shared<ProgressBar>("downloading", ProgressBar::Pace::shown);
    bar->update(now.done_bytes, now.all_bytes);
    if (now.done_bytes >= now.all_bytes) bar.reset();
  };
  return chosen;
}

}  // namespace farmesh::cli
