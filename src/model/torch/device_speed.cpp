#include "model/torch/device_speed.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

namespace farmesh::model {
namespace {

constexpr int kTries = 7;

/// The shortest of several runs of `work` on the device's stream.
template <class Work>
double shortest(ComputeDevice& device, const Work& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= kTries; ++i) {  // the first is not counted
    device.finish();
    const auto begin = std::chrono::steady_clock::now();
    work();
    device.finish();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    if (i > 0) best = std::min(best, time.count());
  }
  return best;
}

}  // namespace

DeviceSpeed measure_speed(ComputeDevice& device) {
  const auto scope = device.enter();
  const bool on_gpu = !device.where().is_cpu();
  const auto in = [&](at::ScalarType type) {
    return at::TensorOptions(type).device(device.where());
  };
  DeviceSpeed speed;
  // More than any cache holds, read once as weights are.
  const std::int64_t count = std::int64_t{1} << (on_gpu ? 28 : 26);
  const at::Tensor memory = at::zeros({count}, in(at::kFloat));
  speed.bytes_per_second =
      static_cast<double>(count) * 4.0 / shortest(device, [&] { memory.sum(); });
  const std::int64_t side = on_gpu ? 8192 : 512;
  const auto rate = [&](at::ScalarType type) {
    const at::Tensor a = at::ones({side, side}, in(type));
    at::Tensor c = at::empty_like(a);
    const auto cube = static_cast<double>(side) * static_cast<double>(side * side);
    return 2.0 * cube / shortest(device, [&] { at::mm_out(c, a, a); });
  };
  speed.f32_per_second = rate(at::kFloat);
  speed.bf16_per_second = rate(at::kBFloat16);
  return speed;
}

}  // namespace farmesh::model
