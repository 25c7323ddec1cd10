// What computes: this machine's processor, or one of its GPUs.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

enum class DeviceKind : std::uint8_t { cpu = 0, cuda = 1 };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;  // of a GPU, 0 to kMostDevices - 1; 0 of the CPU

  static constexpr int kMostDevices = 64;
  friend constexpr bool operator==(const Device&, const Device&) = default;
};

/// "cpu", "cuda:0".
inline std::string name(Device device) {
  return device.kind == DeviceKind::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

/// Of "cpu", "cuda", which is the first GPU, or "cuda:N"; nothing for any other text.
inline std::optional<Device> device_from_name(std::string_view text) noexcept {
  constexpr std::string_view kCuda = "cuda";
  if (text == "cpu") return Device{};
  if (text.substr(0, kCuda.size()) != kCuda) return std::nullopt;
  text.remove_prefix(kCuda.size());
  Device device{DeviceKind::cuda, 0};
  if (text.empty()) return device;
  if (text.front() != ':') return std::nullopt;
  text.remove_prefix(1);
  const char* const end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, device.index);
  const bool number = failure == std::errc() && stopped == end;
  if (!number || device.index < 0 || device.index >= Device::kMostDevices) return std::nullopt;
  return device;
}

}  // namespace farmesh::inline FARMESH_ABI
