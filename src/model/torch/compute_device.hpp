// What a device gives besides its tensors: a stream, staging memory, recorded passes, its memory.
//
// open_device() is the one place where a device is chosen. A GPU's half is in cuda_device.cpp,
// which is built where the libtorch found has CUDA; elsewhere no_cuda_device.cpp stands for it.
// Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <farmesh/device.hpp>
#include <farmesh/result.hpp>

#include "model/stage_engine.hpp"
#include "model/torch/torch.hpp"

namespace farmesh::model {

class ComputeDevice {
 public:
  virtual ~ComputeDevice() = default;

  virtual at::Device where() const = 0;
  /// Uninitialised host memory [bytes] that the device copies to and from by itself.
  virtual at::Tensor staging(std::int64_t bytes) = 0;
  virtual DeviceMemory memory() const = 0;

  /// While one lives the calling thread's work goes to this device's own stream. May be nested.
  class Scope {
   public:
    virtual ~Scope() = default;
  };
  virtual std::unique_ptr<Scope> enter() = 0;
  /// Waits until the stream has done all its work.
  virtual void finish() = 0;

  /// Work to be done again with the same addresses and shapes, and whatever lies there then.
  class Recording {
   public:
    virtual ~Recording() = default;
    virtual void replay() = 0;
  };
  /// Records what `body` does, without doing it. Throws c10::Error where body does what cannot be
  /// recorded; the stream is as it was then. Inside a Scope.
  virtual std::unique_ptr<Recording> record(std::function<void()> body) = 0;
};

/// Fails with engine_unavailable where this libtorch knows no such device.
Result<std::unique_ptr<ComputeDevice>> open_device(Device device);

/// The GPU `index`, as above.
Result<std::unique_ptr<ComputeDevice>> open_cuda_device(int index);

}  // namespace farmesh::model
