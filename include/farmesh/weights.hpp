// Where a model's weights come from that is named by an id, "ORG/NAME", and not by a folder.
//
// Only what is needed is fetched: config, tokenizer, the headers of the weight files, then the
// pieces that hold the tensors of the layers at hand, into a cache folder that processes share.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

struct DownloadProgress {
  std::uint64_t done_bytes = 0;  // of this fetch, with what was there before
  std::uint64_t all_bytes = 0;
};

struct WeightsOptions {
  std::string hub;  // "https://HOST[/PATH]"; empty: $HF_ENDPOINT, else https://huggingface.co
  std::string revision = "main";  // branch, tag or commit
  std::string token;              // sent to the hub's own host only; empty: $HF_TOKEN
  /// A manifest's file, as `farmesh model publish` makes it; empty: the one beside the weights at
  /// the hub. It proves every piece, and knows the model hash.
  std::string manifest;
  /// The model hash that others told: 64 hexadecimal digits. With a manifest it must be that one's;
  /// without, it is taken as true, and the pieces count as unverified. Without either the hub's
  /// ETags stand for it: peers that fetch from the same hub are found, others are not.
  std::string model_hash;
  std::string cache_dir;  // empty: $FARMESH_CACHE_DIR, $XDG_CACHE_HOME/farmesh, ~/.cache/farmesh
  /// Of the pieces that are given to other nodes, Mbit/s; nothing: no limit; 0: none is given.
  std::optional<double> upload_mbps;
  /// While bytes come, on the thread that waits for them.
  std::function<void(const DownloadProgress&)> on_download;
};

}  // namespace farmesh::inline FARMESH_ABI
