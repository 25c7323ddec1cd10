// Opens libfarmesh_torch.so at the first model load and makes engines through its C factory, so
// that a program which never computes never loads libtorch.
#pragma once

#include <memory>
#include <thread>

#include <farmesh/result.hpp>

#include "model/kernel_trial.hpp"
#include "model/stage_engine.hpp"

namespace farmesh::model {

/// The C functions exported by libfarmesh_torch.so. They refuse another `abi` than its own: both
/// sides must come from one build of FarMesh.
inline constexpr const char* kEngineSymbol = "farmesh_engine_v1";
inline constexpr const char* kDeviceSymbol = "farmesh_device_v1";
inline constexpr const char* kSpeedSymbol = "farmesh_device_speed_v1";
inline constexpr const char* kKernelSymbol = "farmesh_kernel_v1";
inline constexpr std::uint32_t kEngineAbi = 5;
using EngineFactory = StageEngine* (*)(std::uint32_t abi, const ModelConfig* config,
                                       const WeightSource* weights, const EngineOptions* options,
                                       Error* error);

using DeviceProbe = bool (*)(std::uint32_t abi, const Device* device, DeviceMemory* memory,
                             Error* error);

using SpeedProbe = bool (*)(std::uint32_t abi, const Device* device, DeviceSpeed* speed,
                            Error* error);

using KernelProbe = bool (*)(std::uint32_t abi, const KernelTrial* trial, KernelFigures* figures,
                             Error* error);

/// While one lives the engine's library is being opened, on a thread of its own: linking libtorch
/// takes a good part of a second, in which the caller may read what else it needs. The destructor
/// waits for the end; what fails is told by load_engine().
class EnginePreparation {
 public:
  EnginePreparation();
  ~EnginePreparation() { thread_.join(); }
  EnginePreparation(const EnginePreparation&) = delete;
  EnginePreparation& operator=(const EnginePreparation&) = delete;

 private:
  std::thread thread_;
};

/// Loads the weights that `options` asks for and returns an engine that owns them.
/// Fails with engine_unavailable (library missing, of another build, another libtorch is already in
/// the process, or this one knows no such device), config_mismatch (a tensor is absent or has
/// another shape), model_unsupported, invalid_argument, out_of_memory. `FARMESH_TORCH_LIBRARY`
/// names the library to open; unset: beside this library or program, then the loader's search path.
Result<std::unique_ptr<StageEngine>> load_engine(const ModelConfig& config,
                                                 const WeightSource& weights,
                                                 const EngineOptions& options);

/// What is free on a device. Fails with engine_unavailable, as above.
Result<DeviceMemory> device_memory(Device device);

}  // namespace farmesh::model
