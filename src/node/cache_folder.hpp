// Where files live that can be made again.
#pragma once

#include <filesystem>

namespace farmesh::node {

/// FARMESH_CACHE_DIR, else $XDG_CACHE_HOME/farmesh, else ~/.cache/farmesh; empty without a home.
std::filesystem::path cache_folder();

/// Hashes of model files by path, size and time; empty when there is no cache folder.
std::filesystem::path hash_cache_file();

}  // namespace farmesh::node
