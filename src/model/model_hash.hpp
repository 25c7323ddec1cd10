// The identity of a model: SHA-256 of its bencoded BitTorrent v2 file tree (BEP 52), so that a
// piece can be verified by itself and two folders with equal hashes hold equal models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::model {

/// Files that count: config.json, generation_config.json, tokenizer and template files,
/// safetensors and their index, directly in the folder. Roots are cached in `cache_file` by
/// (path, size, mtime) when it is not empty.
Result<ModelHash> model_hash(const std::filesystem::path& folder,
                             const std::filesystem::path& cache_file = {});

/// 64 lower-case hexadecimal digits.
std::string to_hex(const ModelHash& hash);
Result<ModelHash> model_hash_from_hex(std::string_view hex);

}  // namespace farmesh::model
