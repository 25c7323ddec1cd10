#include "model/engine_loader.hpp"

#include <array>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

#include <link.h>

#include "base/companion.hpp"
#include "base/thread.hpp"

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

/// Opens the library, which then stays for the life of the process.
Result<EngineFactory> open_library() {
  if (const std::string other = mapped_libtorch(); !other.empty()) {
    return {Errc::engine_unavailable,
            "this process already holds a libtorch (" + other +
                "), and two cannot live together: use a process of its own for FarMesh's engine"};
  }
  calm_thread_pools();
  const Result<void*> factory = open_companion({kLibrary, "FARMESH_TORCH_LIBRARY", kEngineSymbol});
  if (!factory) return factory.error();
  return reinterpret_cast<EngineFactory>(*factory);
}

/// The library as this process has it; a failure is not remembered, so that a later call tries
/// anew.
Result<EngineFactory> factory() {
  static std::mutex mutex;
  static EngineFactory opened = nullptr;
  const std::lock_guard lock(mutex);
  if (opened != nullptr) return opened;
  Result<EngineFactory> found = open_library();
  if (found) opened = *found;
  return found;
}

}  // namespace

EnginePreparation::EnginePreparation() {
  calm_thread_pools();  // here: threads must not read the environment while another changes it
  thread_ = start_thread("fm-engine", [] { static_cast<void>(factory()); });
}

Result<std::unique_ptr<StageEngine>> load_engine(const ModelConfig& config,
                                                 const WeightSource& source,
                                                 const EngineOptions& options) {
  const Result<EngineFactory> make = factory();
  if (!make) return make.error();
  Error error;
  std::unique_ptr<StageEngine> engine((*make)(kEngineAbi, &config, &source, &options, &error));
  if (engine == nullptr) return error;
  return engine;
}

namespace {

/// Another function of the library, which is opened by then.
Result<void*> symbol_of(const char* name) {
  if (const auto library = factory(); !library) return library.error();  // opens it, once
  return open_companion({kLibrary, "FARMESH_TORCH_LIBRARY", name});
}

}  // namespace

Result<DeviceMemory> device_memory(Device device) {
  const Result<void*> symbol = symbol_of(kDeviceSymbol);
  if (!symbol) return symbol.error();
  const auto probe = reinterpret_cast<DeviceProbe>(*symbol);
  DeviceMemory memory;
  Error error;
  if (!probe(kEngineAbi, &device, &memory, &error)) return error;
  return memory;
}

Result<KernelFigures> try_kernel(const KernelTrial& trial) {
  const Result<void*> symbol = symbol_of(kKernelSymbol);
  if (!symbol) return symbol.error();
  const auto probe = reinterpret_cast<KernelProbe>(*symbol);
  KernelFigures figures;
  Error error;
  if (!probe(kEngineAbi, &trial, &figures, &error)) return error;
  return figures;
}

}  // namespace farmesh::model
