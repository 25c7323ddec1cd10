// The engine's library for programs that are built beside it and nothing else of FarMesh: opened
// by FARMESH_TORCH_LIBRARY, else from the program's own folder. What fails ends the program.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <dlfcn.h>

#include "model/engine_loader.hpp"

namespace farmesh::bench {

class EngineLibrary {
 public:
  EngineLibrary() {
    for (const char* key : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}) ::setenv(key, "1", 0);
    const char* named = std::getenv("FARMESH_TORCH_LIBRARY");
    const std::string path =
        named != nullptr
            ? named
            : std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libfarmesh_torch.so";
    library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) fail(::dlerror());
  }

  std::unique_ptr<model::StageEngine> load(const model::ModelConfig& config,
                                           const model::WeightSource& weights,
                                           const model::EngineOptions& options) const {
    const auto factory = symbol<model::EngineFactory>(model::kEngineSymbol);
    Error error;
    std::unique_ptr<model::StageEngine> engine(
        factory(model::kEngineAbi, &config, &weights, &options, &error));
    if (engine == nullptr) fail(error.detail);
    return engine;
  }

  Result<model::DeviceMemory> memory(Device device) const {
    model::DeviceMemory memory;
    Error error;
    const auto probe = symbol<model::DeviceProbe>(model::kDeviceSymbol);
    if (!probe(model::kEngineAbi, &device, &memory, &error)) return error;
    return memory;
  }

  model::DeviceSpeed speed(Device device) const {
    model::DeviceSpeed speed;
    Error error;
    const auto probe = symbol<model::SpeedProbe>(model::kSpeedSymbol);
    if (!probe(model::kEngineAbi, &device, &speed, &error)) fail(error.detail);
    return speed;
  }

  [[noreturn]] static void fail(const std::string& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(1);
  }

 private:
  template <class Function>
  Function symbol(const char* name) const {
    void* const found = ::dlsym(library_, name);
    if (found == nullptr) fail(std::string("the engine's library has no ") + name);
    return reinterpret_cast<Function>(found);
  }

  void* library_ = nullptr;
};

}  // namespace farmesh::bench
