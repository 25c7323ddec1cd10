#include "base/companion.hpp"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include <dlfcn.h>

namespace farmesh {
namespace {

/// Where the library may lie, most specific first.
std::vector<std::string> candidates(const Companion& companion) {
  if (companion.environment != nullptr) {
    const char* named = std::getenv(companion.environment);
    if (named != nullptr && *named != '\0') return {named};
  }
  std::vector<std::string> paths;
  Dl_info self{};
  if (::dladdr(reinterpret_cast<void*>(&open_companion), &self) != 0 && self.dli_fname) {
    const std::filesystem::path file(self.dli_fname);
    // A program without a slash in its name was found through PATH: /proc knows where.
    if (file.has_parent_path()) paths.push_back((file.parent_path() / companion.file).string());
  }
  std::error_code failed;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    const std::filesystem::path folder = program.parent_path();
    paths.push_back((folder / companion.file).string());
    paths.push_back((folder.parent_path() / "lib" / companion.file).string());
  }
  paths.emplace_back(companion.file);
  return paths;
}

}  // namespace

Result<void*> open_companion(const Companion& companion) {
  std::string problems;
  for (const std::string& path : candidates(companion)) {
    std::error_code ignored;
    if (!problems.empty()) problems += "; ";
    if (path.find('/') != std::string::npos && !std::filesystem::exists(path, ignored)) {
      problems += path + ": no such file";
      continue;
    }
    void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = ::dlerror();
      problems += reason != nullptr ? reason : path;
      continue;
    }
    void* factory = ::dlsym(library, companion.symbol);
    if (factory != nullptr) return factory;
    ::dlclose(library);
    return {Errc::engine_unavailable, path + " is not FarMesh's, or of another version"};
  }
  return {Errc::engine_unavailable, "cannot load " + std::string(companion.file) + ": " + problems};
}

}  // namespace farmesh
