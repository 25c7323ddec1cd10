// The symbols of libfarmesh_torch.so.
#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include <torch/version.h>

#include "model/engine_loader.hpp"
#include "model/torch/device_speed.hpp"
#include "model/torch/engine.hpp"
#include "model/torch/kernel_trial.hpp"

namespace farmesh::model {
namespace {

// Raise when a kernel changes a bit: peers of different contracts must not share a session.
constexpr const char* kExactContract = "/exact-2/fma";

constexpr int kLastCore = 1'023;  // of the masks that the system knows

Numerics numerics_of(const EngineOptions& options) {
  return options.numerics.value_or(usual_numerics(options.device));
}

Result<void> check(const ModelConfig& config, const EngineOptions& options) {
  const Numerics numerics = numerics_of(options);
  if (options.device.kind != DeviceKind::cpu && numerics != Numerics::fused) {
    return {Errc::invalid_argument, "a GPU computes with libtorch's fused functions alone: " +
                                        std::string(name(numerics)) + " numerics are a CPU's"};
  }
  switch (options.precision) {
    case Precision::f32:
    case Precision::bf16: break;
    case Precision::f16:
      if (options.device.kind == DeviceKind::cuda) break;
      return {Errc::model_unsupported, "f16 arithmetic needs a GPU: choose bf16 or f32"};
    case Precision::int8:
    case Precision::int4:
      if (numerics != Numerics::fast) break;
      return {Errc::model_unsupported, "libtorch has no products of " +
                                           std::string(name(options.precision)) +
                                           " weights here: choose exact numerics, bf16 or f32"};
  }
  if (options.kv == KvFormat::int8 && numerics != Numerics::exact) {
    return {Errc::model_unsupported,
            "libtorch attends to no int8 KV cache: choose bf16 or f32, or the CPU's kernels"};
  }
  if (options.pin_threads && numerics != Numerics::exact) {
    return {Errc::invalid_argument,
            "only the threads of exact numerics can be bound to cores: the others are libtorch's"};
  }
  if (const int first = options.pin_threads.value_or(0); first < 0 || first > kLastCore) {
    return {Errc::invalid_argument,
            "threads are bound from a core of 0 to " + std::to_string(kLastCore) + " on"};
  }
  if (options.blocks.end < options.blocks.begin || options.blocks.end > config.num_layers) {
    return {Errc::invalid_argument, "the model has layers 0:" + std::to_string(config.num_layers)};
  }
  if (options.blocks.empty() && !options.head) {
    return {Errc::invalid_argument, "an engine needs layers, a head, or both"};
  }
  return {};
}

Result<std::unique_ptr<StageEngine>> make_engine(const ModelConfig& config,
                                                 const WeightSource& source,
                                                 const EngineOptions& options) {
  if (Result<void> possible = check(config, options); !possible) return possible.error();
  OpsOptions ops_options;
  ops_options.weights = options.precision;
  ops_options.packed = options.packed;
  ops_options.residual = residual_dtype(options.precision);
  ops_options.kv = options.kv.value_or(usual_kv(options.precision));
  // Counts the cores this process may use, not the machine's.
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  ops_options.threads = std::clamp(options.threads > 0 ? options.threads : cores, 1, 1024);
  ops_options.pin_threads = options.pin_threads;

  std::string numerics(name(options.precision));
  std::unique_ptr<Ops> ops;
  switch (numerics_of(options)) {
    case Numerics::exact: {
      at::set_num_threads(1);  // our pool does the work
      Result<std::unique_ptr<Ops>> made = make_exact_ops(config, ops_options);
      if (!made) return made.error();
      ops = *std::move(made);
      numerics += kExactContract;
      break;
    }
    case Numerics::fast:
      ops = make_torch_ops(config, ops_options);
      numerics += "/fast/torch-" TORCH_VERSION;
      break;
    case Numerics::fused: {
      Result<std::unique_ptr<ComputeDevice>> device = open_device(options.device);
      if (!device) return device.error();
      ops = make_fused_ops(config, ops_options, *std::move(device));
      numerics += "/fused/torch-" TORCH_VERSION "/";
      numerics += options.device.kind == DeviceKind::cpu ? "cpu" : "cuda";
      break;
    }
  }
  // A cache in another format computes other bits, even where a peer holds only the head.
  if (ops_options.kv != usual_kv(options.precision)) {
    numerics += "/kv-";
    numerics += name(ops_options.kv);
  }
  return std::unique_ptr<StageEngine>(
      std::make_unique<Engine>(config, source, options, std::move(ops), std::move(numerics)));
}

/// Calls body(), which gives a Result; what it throws becomes an Error.
template <class Body>
auto caught(const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const LoadFailure& failure) {
    return failure.error;
  } catch (const std::bad_alloc&) {
    return {Errc::out_of_memory, "not enough memory for the weights of these layers"};
  } catch (const c10::OutOfMemoryError& failure) {  // of a GPU
    return {Errc::out_of_memory, failure.what_without_backtrace()};
  } catch (const c10::Error& failure) {
    return {Errc::compute_failed, failure.what_without_backtrace()};
  } catch (const std::exception& failure) {
    return {Errc::compute_failed, failure.what()};
  }
}

const Error kOtherBuild{Errc::engine_unavailable,
                        "libfarmesh_torch is of another build of FarMesh"};

/// Writes what ask() gives, for the C functions below.
template <class Answer, class Ask>
bool answered(std::uint32_t abi, Answer* answer, Error* error, const Ask& ask) {
  if (abi != kEngineAbi) {
    *error = kOtherBuild;
    return false;
  }
  const auto found = caught(ask);
  if (found) {
    *answer = *found;
  } else {
    *error = found.error();
  }
  return bool(found);
}

/// The same of an opened device.
template <class Answer, class Ask>
bool asked(std::uint32_t abi, const Device& device, Answer* answer, Error* error, const Ask& ask) {
  return answered(abi, answer, error, [&]() -> Result<Answer> {
    const auto opened = open_device(device);
    if (!opened) return opened.error();
    return ask(**opened);
  });
}

}  // namespace
}  // namespace farmesh::model

extern "C" [[gnu::visibility("default")]] farmesh::model::StageEngine* farmesh_engine_v1(
    std::uint32_t abi, const farmesh::model::ModelConfig* config,
    const farmesh::model::WeightSource* weights, const farmesh::model::EngineOptions* options,
    farmesh::Error* error) {
  using namespace farmesh::model;  // NOLINT(google-build-using-namespace): this library's own
  if (abi != kEngineAbi) {
    *error = kOtherBuild;
    return nullptr;
  }
  auto made = caught([&] { return make_engine(*config, *weights, *options); });
  if (made) return (*made).release();
  *error = made.error();
  return nullptr;
}

extern "C" [[gnu::visibility("default")]] bool farmesh_device_v1(
    std::uint32_t abi, const farmesh::Device* device, farmesh::model::DeviceMemory* memory,
    farmesh::Error* error) {
  return farmesh::model::asked(
      abi, *device, memory, error,
      [](const farmesh::model::ComputeDevice& opened) { return opened.memory(); });
}

extern "C" [[gnu::visibility("default")]] bool farmesh_device_speed_v1(
    std::uint32_t abi, const farmesh::Device* device, farmesh::model::DeviceSpeed* speed,
    farmesh::Error* error) {
  return farmesh::model::asked(
      abi, *device, speed, error,
      [](farmesh::model::ComputeDevice& opened) { return farmesh::model::measure_speed(opened); });
}

extern "C" [[gnu::visibility("default")]] bool farmesh_kernel_v1(
    std::uint32_t abi, const farmesh::model::KernelTrial* trial,
    farmesh::model::KernelFigures* figures, farmesh::Error* error) {
  return farmesh::model::answered(abi, figures, error,
                                  [&] { return farmesh::model::run_kernel(*trial); });
}
