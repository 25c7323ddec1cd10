#include "node/cache_folder.hpp"

#include <cstdlib>
#include <system_error>

namespace farmesh::node {

std::filesystem::path cache_folder() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const auto own = variable("FARMESH_CACHE_DIR"); !own.empty()) return own;
  if (const auto xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "farmesh";
  if (const auto home = variable("HOME"); !home.empty()) return home / ".cache" / "farmesh";
  return {};
}

std::filesystem::path hash_cache_file() {
  const std::filesystem::path folder = cache_folder();
  if (folder.empty()) return {};
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  return failed ? std::filesystem::path() : folder / "model-hashes";
}

}  // namespace farmesh::node
