// What a device gives in this run, which benchmarks set their figures beside.
#pragma once

#include "model/torch/compute_device.hpp"

namespace farmesh::model {

/// Reads one large tensor, and multiplies large square matrices by the library. Throws c10::Error.
DeviceSpeed measure_speed(ComputeDevice& device);

}  // namespace farmesh::model
