#include "node/hardware.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.hpp"

namespace farmesh::node {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFileBytes = 1 << 20;
constexpr std::chrono::seconds kGpuPatience{5};  // a broken driver makes nvidia-smi hang
constexpr const char* kFeatures[] = {"avx2",        "fma",         "f16c",     "avx512f",
                                     "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd"};

/// Empty where it cannot be read.
std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return text;
}

std::string_view trimmed(std::string_view text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// The number that `text` begins with; nothing for "max" and other words.
std::optional<std::uint64_t> number(std::string_view text) {
  text = trimmed(text);
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

/// What follows `name` and `separator` on the first line that begins with `name`.
std::string_view value_of(std::string_view text, std::string_view name, char separator) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with(name)) continue;
    const std::string_view rest = trimmed(line.substr(name.size()));
    if (separator == ' ') return rest;
    if (rest.starts_with(separator)) return trimmed(rest.substr(1));
  }
  return {};
}

std::uint64_t kilobytes(std::string_view text, std::string_view name) {
  return number(value_of(text, name, ':')).value_or(0) * 1'024;
}

/// A control group's limit and what is left of it; files that can be dropped count as left.
struct Allowance {
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t left = std::numeric_limits<std::uint64_t>::max();

  void also(const Allowance& other) {
    limit = std::min(limit, other.limit);
    left = std::min(left, other.left);
  }
};

Allowance allowance_of(const fs::path& group, const char* limit_file, const char* usage_file,
                       const char* reclaimable) {
  const auto limit = number(read_text(group / limit_file));
  const auto used = number(read_text(group / usage_file));
  if (!limit || !used) return {};
  const std::string stat = read_text(group / "memory.stat");
  const std::uint64_t droppable = number(value_of(stat, reclaimable, ' ')).value_or(0);
  const std::uint64_t held = *used - std::min(*used, droppable);
  return {*limit, *limit - std::min(*limit, held)};
}

/// Of every group from this process's up to the root, in both versions of control groups. Inside a
/// container the path may not be visible: then the mount's root is the container's own group.
Allowance allowance(const fs::path& root) {
  const fs::path mount = root / "sys/fs/cgroup";
  Allowance all;
  const auto climb = [&all](const fs::path& top, fs::path path, const auto& read) {
    for (;; path = path.parent_path()) {
      all.also(read(top / path));
      if (path.empty()) break;
    }
  };
  const auto version_2 = [](const fs::path& group) {
    return allowance_of(group, "memory.max", "memory.current", "inactive_file ");
  };
  const auto version_1 = [](const fs::path& group) {
    return allowance_of(group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                        "total_inactive_file ");
  };
  all.also(version_2(mount));
  all.also(version_1(mount / "memory"));
  std::istringstream groups(read_text(root / "proc/self/cgroup"));
  for (std::string line; std::getline(groups, line);) {  // "0::/path" or "9:cpu,memory:/path"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.find("..") != std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path path = fs::path(line.substr(second + 1)).relative_path();
    if (controllers == ",,") climb(mount, path, version_2);
    if (controllers.find(",memory,") != std::string::npos) climb(mount / "memory", path, version_1);
  }
  return all;
}

/// What a program prints; nothing when it is not there, fails, or takes too long.
std::optional<std::string> output_of(const std::vector<std::string>& command) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::vector<char*> argv;
  for (const std::string& part : command) argv.push_back(const_cast<char*>(part.c_str()));
  argv.push_back(nullptr);
  pid_t child = -1;
  const int failed = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);

  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + kGpuPatience;
  bool whole = false;
  while (failed == 0 && !whole && text.size() < kMaxFileBytes) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd waiting{ends[0], POLLIN, 0};
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) break;
    char buffer[4'096];
    const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
    if (got < 0) break;
    whole = got == 0;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  if (failed != 0) return std::nullopt;
  if (!whole) ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!whole || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;
  return text;
}

std::string gigabytes(std::uint64_t bytes) { return fmt::format("{:.1f} GB", double(bytes) / 1e9); }

}  // namespace

MemoryNow memory_now(const fs::path& root) {
  const std::string meminfo = read_text(root / "proc/meminfo");
  MemoryNow now{kilobytes(meminfo, "MemTotal"), kilobytes(meminfo, "MemAvailable")};
  const Allowance allowed = allowance(root);
  now.total_bytes = std::min(now.total_bytes, allowed.limit);
  now.free_bytes = std::min(now.free_bytes, allowed.left);
  return now;
}

std::vector<Gpu> parse_gpus(std::string_view text) {
  constexpr std::uint64_t kMiB = 1 << 20;
  std::vector<Gpu> gpus;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t last = line.rfind(',');
    const std::size_t middle =
        last == std::string::npos || last == 0 ? std::string::npos : line.rfind(',', last - 1);
    if (middle == std::string::npos) continue;
    const auto total = number(std::string_view(line).substr(middle + 1, last - middle - 1));
    const auto free = number(std::string_view(line).substr(last + 1));
    const std::string_view name = trimmed(std::string_view(line).substr(0, middle));
    constexpr std::uint64_t kMost = std::uint64_t{1} << 40;  // MiB; so that bytes fit
    if (!total || !free || name.empty() || *total > kMost || *free > *total) continue;
    gpus.push_back({std::string(name), *total * kMiB, *free * kMiB});
  }
  return gpus;
}

Hardware detect_hardware(const HardwareOptions& options) {
  Hardware hardware;
  const std::string cpu = read_text(options.root / "proc/cpuinfo");
  hardware.cpu = value_of(cpu, "model name", ':');
  std::string flags = " " + std::string(value_of(cpu, "flags", ':')) + " ";
  flags += std::string(value_of(cpu, "Features", ':')) + " ";  // as ARM has it
  for (const char* feature : kFeatures) {
    if (flags.find(" " + std::string(feature) + " ") != std::string::npos) {
      hardware.features.emplace_back(feature);
    }
  }
  hardware.cores = available_cores();
  const MemoryNow memory = memory_now(options.root);
  hardware.memory_bytes = memory.total_bytes;
  hardware.free_bytes = memory.free_bytes;
  if (!options.gpu_program.empty()) {
    const auto listed = output_of({options.gpu_program, "--query-gpu=name,memory.total,memory.free",
                                   "--format=csv,noheader,nounits"});
    if (listed) hardware.gpus = parse_gpus(*listed);
  }
  return hardware;
}

std::string describe(const Hardware& hardware) {
  std::string text = hardware.cpu.empty() ? "unknown CPU" : hardware.cpu;
  text += fmt::format(", {} core{},", hardware.cores, hardware.cores == 1 ? "" : "s");
  for (const std::string& feature : hardware.features) text += " " + feature;
  if (!hardware.features.empty()) text += ",";
  text += fmt::format(" {} free of {}", gigabytes(hardware.free_bytes),
                      gigabytes(hardware.memory_bytes));
  if (hardware.gpus.empty()) return text + ", no GPU";
  for (const Gpu& gpu : hardware.gpus) {
    text += fmt::format(", {} with {} free of {}", gpu.name, gigabytes(gpu.free_bytes),
                        gigabytes(gpu.memory_bytes));
  }
  return text;
}

}  // namespace farmesh::node
