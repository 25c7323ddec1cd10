// What this machine is: processor, memory that may still be used, graphics cards.
//
// Reads /proc, /sys/fs/cgroup and what nvidia-smi prints; what cannot be read is left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace farmesh::node {

struct Gpu {
  std::string name;
  std::uint64_t memory_bytes = 0;
  std::uint64_t free_bytes = 0;
};

struct Hardware {
  std::string cpu;                    // as it calls itself; empty: unknown
  std::vector<std::string> features;  // of the CPU, those that products are quicker with
  int cores = 1;                      // that this process may use
  std::uint64_t memory_bytes = 0;     // of the machine, or of the container's limit
  /// That may be taken without pushing anybody out: what the kernel calls available, and no more
  /// than the limits of the control groups that this process is in leave. 0: unknown.
  std::uint64_t free_bytes = 0;
  std::vector<Gpu> gpus;
};

struct HardwareOptions {
  std::filesystem::path root = "/";  // of /proc and /sys
  /// Lists graphics cards; looked for in PATH. Empty, absent, failing or slow: there are none.
  std::string gpu_program = "nvidia-smi";
};

Hardware detect_hardware(const HardwareOptions& options = {});

/// Memory alone, as it is now: total and free bytes.
struct MemoryNow {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};
MemoryNow memory_now(const std::filesystem::path& root = "/");

/// Lines of "name, total MiB, free MiB", as
/// `nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv,noheader,nounits` prints
/// them. Lines of another form are left out.
std::vector<Gpu> parse_gpus(std::string_view text);

/// "AMD EPYC 7B13, 8 cores, avx2 fma, 30.1 GB free of 33.5 GB, no GPU".
std::string describe(const Hardware& hardware);

}  // namespace farmesh::node
