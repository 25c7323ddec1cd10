// The processor as a device: nothing to wait for, and a recording is the body itself.
#include <utility>

#include <unistd.h>

#include "model/torch/compute_device.hpp"

namespace farmesh::model {
namespace {

class HostDevice final : public ComputeDevice {
 public:
  at::Device where() const override { return at::kCPU; }
  at::Tensor staging(std::int64_t bytes) override { return at::empty({bytes}, at::kByte); }

  DeviceMemory memory() const override {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return {static_cast<std::uint64_t>(::sysconf(_SC_AVPHYS_PAGES)) * page,
            static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * page};
  }

  std::unique_ptr<Scope> enter() override { return nullptr; }
  void finish() override {}

  /// Doing it again is what a graph of a GPU amounts to, so that whatever a body takes from the
  /// step it was recorded in, and not from the buffers, shows on the processor too.
  std::unique_ptr<Recording> record(std::function<void()> body) override {
    struct Again final : Recording {
      explicit Again(std::function<void()> what) : body(std::move(what)) {}
      void replay() override { body(); }
      std::function<void()> body;
    };
    return std::make_unique<Again>(std::move(body));
  }
};

}  // namespace

Result<std::unique_ptr<ComputeDevice>> open_device(Device device) {
  if (device.kind == DeviceKind::cuda) return open_cuda_device(device.index);
  return std::unique_ptr<ComputeDevice>(std::make_unique<HostDevice>());
}

}  // namespace farmesh::model
