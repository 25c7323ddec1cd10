// In place of cuda_device.cpp where libtorch has no CUDA.
#include <torch/version.h>

#include "model/torch/compute_device.hpp"

namespace farmesh::model {

Result<std::unique_ptr<ComputeDevice>> open_cuda_device(int index) {
  return {Errc::engine_unavailable, name(Device{DeviceKind::cuda, index}) +
                                        ": the libtorch " TORCH_VERSION
                                        " that this engine was built with has no CUDA"};
}

}  // namespace farmesh::model
