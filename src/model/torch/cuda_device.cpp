// A GPU: a stream of its own for each engine, page-locked staging, CUDA graphs.
#include <optional>
#include <string>
#include <utility>

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "model/torch/compute_device.hpp"

namespace farmesh::model {
namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

/// A graph, replayed on the stream that is current then.
class Graph final : public ComputeDevice::Recording {
 public:
  /// Other threads of the process may go on using the GPU meanwhile.
  void capture(Pool pool, const std::function<void()>& body) {
    graph_.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    try {
      body();
    } catch (...) {
      abandon();
      throw;
    }
    graph_.capture_end();
  }
  void replay() override { graph_.replay(); }

 private:
  /// Ends a capture that came to nothing; it may have ended itself.
  void abandon() noexcept {
    try {
      graph_.capture_end();
    } catch (...) {  // NOLINT(bugprone-empty-catch): the failure that led here is the one told
    }
  }

  at::cuda::CUDAGraph graph_;
};

class CudaDevice final : public ComputeDevice {
 public:
  explicit CudaDevice(at::Device where)
      : where_(where),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, where.index())),
        pool_(at::cuda::graph_pool_handle()) {}

  at::Device where() const override { return where_; }

  at::Tensor staging(std::int64_t bytes) override {
    return at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(true));
  }

  DeviceMemory memory() const override {
    const c10::cuda::CUDAGuard guard(where_);
    DeviceMemory memory;
    std::size_t free = 0, total = 0;
    if (::cudaMemGetInfo(&free, &total) == cudaSuccess) memory = {free, total};
    return memory;
  }

  std::unique_ptr<Scope> enter() override {
    struct OnStream final : Scope {
      explicit OnStream(c10::cuda::CUDAStream stream) : guard(stream) {}
      c10::cuda::CUDAStreamGuard guard;
    };
    return std::make_unique<OnStream>(stream_);
  }

  void finish() override { stream_.synchronize(); }

  std::unique_ptr<Recording> record(std::function<void()> body) override {
    auto graph = std::make_unique<Graph>();
    graph->capture(pool_, body);
    return graph;
  }

 private:
  const at::Device where_;
  const c10::cuda::CUDAStream stream_;
  const Pool pool_;  // all graphs of an engine, of which one runs at a time
};

}  // namespace

Result<std::unique_ptr<ComputeDevice>> open_cuda_device(int index) {
  const std::string named = name(Device{DeviceKind::cuda, index});
  const int count = c10::cuda::device_count();  // 0 without a driver, too
  if (count == 0) {
    return {Errc::engine_unavailable, named + ": no GPU that CUDA can use on this machine"};
  }
  if (index >= count) {
    return {Errc::engine_unavailable,
            named + ": this machine has " + std::to_string(count) + " such devices, from cuda:0"};
  }
  try {
    const at::Device where(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    static_cast<void>(at::empty({1}, at::TensorOptions().device(where)));  // wakes the library up
    return std::unique_ptr<ComputeDevice>(std::make_unique<CudaDevice>(where));
  } catch (const c10::Error& error) {
    return {Errc::engine_unavailable, named + ": " + error.what_without_backtrace()};
  }
}

}  // namespace farmesh::model
