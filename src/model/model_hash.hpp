// The identity of a model: SHA-256 of its bencoded BitTorrent v2 file tree (BEP 52), so that a
// piece can be verified by itself and two folders with equal hashes hold equal models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

#include "base/digest.hpp"
#include "base/types.hpp"

namespace farmesh::model {

struct FileRoot {
  std::uint64_t length = 0;
  Sha256Digest root{};  // of its Merkle tree; of nothing where it is empty
};

/// Files that count: config.json, generation_config.json, tokenizer and template files,
/// safetensors and their index, directly in the folder.
bool belongs_to_model(std::string_view name);
/// Those of them that are no safetensors.
std::span<const std::string_view> text_files();

/// {name: {"": {"length": n, "pieces root": root}}, …}; an empty file has no root.
std::string bencode_tree(const std::map<std::string, FileRoot>& files);
ModelHash hash_of_tree(const std::map<std::string, FileRoot>& files);

/// Roots are cached in `cache_file` by (path, size, mtime) when it is not empty.
Result<ModelHash> model_hash(const std::filesystem::path& folder,
                             const std::filesystem::path& cache_file = {});

/// 64 lower-case hexadecimal digits.
std::string to_hex(const ModelHash& hash);
Result<ModelHash> model_hash_from_hex(std::string_view hex);

}  // namespace farmesh::model
