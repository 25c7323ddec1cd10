// A model's manifest: what its files are, down to the hash of each piece. It is a BitTorrent v2
// .torrent file (BEP 52), and the model hash is the hash of its `file tree`, so that whoever has
// the manifest of a hash can prove any piece of the model by itself, wherever it came from.
//
// Values; parse_manifest() takes a stranger's bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/digest.hpp"
#include "base/types.hpp"

namespace farmesh::model {

inline constexpr std::size_t kMaxManifestBytes = 64 << 20;
inline constexpr const char* kManifestName = "farmesh.torrent";  // beside the weights, at a hub too

struct ManifestFile {
  std::string name;
  std::uint64_t length = 0;
  Sha256Digest root{};               // of nothing where the file is empty
  std::vector<Sha256Digest> pieces;  // one each; the root alone where the file is one piece
};

struct Manifest {
  std::string name;                    // the hub's revision, so that hub URLs are web seeds
  std::uint64_t piece_bytes = 0;       // a power of two, 16 KiB to 64 MiB
  std::vector<ManifestFile> files;     // by name, directly in the model's folder
  std::vector<std::string> web_seeds;  // URL + name + "/" + file is a file
  std::string info;                    // its bencoded info dictionary

  const ManifestFile* find(std::string_view file) const noexcept;
  ModelHash model_hash() const;
  Sha256Digest info_hash() const;  // what a magnet link names
  std::string encode() const;
  std::string magnet() const;

  /// Whether `bytes` are piece `index` of `file`.
  bool proves(const ManifestFile& file, std::size_t index, ByteView bytes) const;
};

/// Fails with model_malformed: no v2 torrent of files in one folder, sizes beyond bounds, names
/// that would leave the folder, hashes that contradict each other.
Result<Manifest> parse_manifest(std::string_view bytes);

struct ManifestOptions {
  std::string name = "main";
  std::uint64_t piece_bytes = 0;  // 0: about a two-thousandth of the whole
  std::vector<std::string> web_seeds;
};

/// Reads the files that count for model_hash(). Fails as that does, and with invalid_argument.
Result<Manifest> make_manifest(const std::filesystem::path& folder, const ManifestOptions& options);

}  // namespace farmesh::model
