#include "model/engine_loader.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <dlfcn.h>
#include <link.h>

namespace farmesh::model {
namespace {

constexpr const char* kLibrary = "libfarmesh_torch.so";

/// The path of a libtorch that is already in this process; empty when there is none.
std::string mapped_libtorch() {
  std::string found;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        const std::string_view path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
        const std::string_view file = path.substr(path.rfind('/') + 1);
        if (!file.starts_with("libtorch_cpu.so") && !file.starts_with("libc10.so")) return 0;
        *static_cast<std::string*>(out) = path;
        return 1;
      },
      &found);
  return found;
}

/// Three peers on a machine must not spin against each other: libgomp waits asleep, and OpenBLAS
/// makes no pool of its own. Both read these once, when they load; what the user set stays.
void calm_thread_pools() {
  constexpr std::array<std::array<const char*, 2>, 6> settings{{{"OMP_WAIT_POLICY", "passive"},
                                                                {"GOMP_SPINCOUNT", "0"},
                                                                {"KMP_BLOCKTIME", "0"},
                                                                {"OMP_NUM_THREADS", "1"},
                                                                {"OPENBLAS_NUM_THREADS", "1"},
                                                                {"MKL_NUM_THREADS", "1"}}};
  for (const auto& [key, value] : settings) ::setenv(key, value, /*overwrite=*/0);
}

/// Where the library may lie, most specific first.
std::vector<std::string> candidates() {
  if (const char* named = std::getenv("FARMESH_TORCH_LIBRARY"); named != nullptr && *named) {
    return {named};
  }
  std::vector<std::string> paths;
  Dl_info self{};
  if (::dladdr(reinterpret_cast<void*>(&mapped_libtorch), &self) != 0 && self.dli_fname) {
    const std::filesystem::path file(self.dli_fname);
    // A program without a slash in its name was found through PATH: /proc knows where.
    if (file.has_parent_path()) paths.push_back((file.parent_path() / kLibrary).string());
  }
  std::error_code failed;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    paths.push_back((program.parent_path() / kLibrary).string());
    paths.push_back((program.parent_path().parent_path() / "lib" / kLibrary).string());
  }
  paths.emplace_back(kLibrary);
  return paths;
}

/// Opens the library, which then stays for the life of the process.
Result<EngineFactory> open_library() {
  if (const std::string other = mapped_libtorch(); !other.empty()) {
    return {Errc::engine_unavailable,
            "this process already holds a libtorch (" + other +
                "), and two cannot live together: use a process of its own for FarMesh's engine"};
  }
  calm_thread_pools();
  std::string problems;
  for (const std::string& path : candidates()) {
    std::error_code ignored;
    const bool is_path = path.find('/') != std::string::npos;
    if (is_path && !std::filesystem::exists(path, ignored)) {
      problems += (problems.empty() ? "" : "; ") + path + ": no such file";
      continue;
    }
    void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = ::dlerror();
      problems += (problems.empty() ? "" : "; ") + std::string(reason ? reason : path);
      continue;
    }
    auto factory = reinterpret_cast<EngineFactory>(::dlsym(library, kEngineSymbol));
    if (factory != nullptr) return factory;
    ::dlclose(library);
    return {Errc::engine_unavailable, path + " is not FarMesh's engine, or of another version"};
  }
  return {Errc::engine_unavailable, std::string("cannot load the compute engine: ") + problems};
}

}  // namespace

Result<std::unique_ptr<StageEngine>> load_engine(const ModelConfig& config,
                                                 const WeightSource& source,
                                                 const EngineOptions& options) {
  static std::mutex mutex;
  static EngineFactory factory = nullptr;
  {
    const std::lock_guard lock(mutex);
    if (factory == nullptr) {
      Result<EngineFactory> opened = open_library();
      if (!opened) return opened.error();
      factory = *opened;
    }
  }
  Error error;
  std::unique_ptr<StageEngine> engine(factory(kEngineAbi, &config, &source, &options, &error));
  if (engine == nullptr) return error;
  return engine;
}

}  // namespace farmesh::model
