#include "node/hardware.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "support/temp_dir.hpp"

namespace farmesh::node {
namespace {

namespace fs = std::filesystem;

/// A machine's /proc and /sys.
struct Machine {
  test::TempDir folder;

  Machine() {
    write(
        "proc/meminfo",
        "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n");
    write(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Some CPU 3000\nflags\t\t: fpu avx2 fma avx512f avx512_vnni\n"
        "\nprocessor\t: 1\nmodel name\t: Some CPU 3000\n");
  }
  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((folder.path() / path).parent_path());
    std::ofstream(folder.path() / path) << text;
  }
  MemoryNow memory() const { return memory_now(folder.path()); }
};

}  // namespace

TEST_SUITE("node/hardware") {
  TEST_CASE("memory is what the kernel calls available") {
    const Machine machine;
    CHECK(machine.memory().total_bytes == 16'000'000ull * 1'024);
    CHECK(machine.memory().free_bytes == 8'000'000ull * 1'024);
  }

  TEST_CASE("a control group's limit is a limit, its cached files are free") {
    const Machine machine;
    machine.write("sys/fs/cgroup/memory.max", "4000000000\n");
    machine.write("sys/fs/cgroup/memory.current", "3000000000\n");
    machine.write("sys/fs/cgroup/memory.stat", "anon 1000\ninactive_file 500000000\n");
    CHECK(machine.memory().total_bytes == 4'000'000'000);
    CHECK(machine.memory().free_bytes == 1'500'000'000);
    machine.write("sys/fs/cgroup/memory.max", "max\n");
    CHECK(machine.memory().free_bytes == 8'000'000ull * 1'024);
  }

  TEST_CASE("the narrowest group above a process counts, in both versions") {
    const Machine machine;
    machine.write("proc/self/cgroup", "0::/user/session\n");
    machine.write("sys/fs/cgroup/user/session/memory.max", "max\n");
    machine.write("sys/fs/cgroup/user/session/memory.current", "5\n");
    machine.write("sys/fs/cgroup/user/memory.max", "2000\n");
    machine.write("sys/fs/cgroup/user/memory.current", "2500\n");  // over it: nothing is left
    CHECK(machine.memory().free_bytes == 0);
    machine.write("proc/self/cgroup", "9:cpu,memory:/docker/1\n4:freezer:/x\n");
    machine.write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "3000\n");
    machine.write("sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", "1000\n");
    CHECK(machine.memory().free_bytes == 2'000);
    machine.write("proc/self/cgroup", "0::/../../elsewhere\nnonsense\n");
    CHECK(machine.memory().free_bytes == 8'000'000ull * 1'024);
  }

  TEST_CASE("a machine that tells nothing has nothing to promise") {
    const test::TempDir nothing;
    const Hardware hardware = detect_hardware({nothing.path(), ""});
    CHECK(hardware.free_bytes == 0);
    CHECK(hardware.cpu.empty());
    CHECK(hardware.cores >= 1);
    CHECK(hardware.gpus.empty());
  }

  TEST_CASE("graphics cards are those that nvidia-smi lists") {
    const auto gpus = parse_gpus("NVIDIA GeForce RTX 3060, 12288, 11000\nTesla, T4, 15360, 100\n");
    REQUIRE(gpus.size() == 2);
    CHECK(gpus[0].name == "NVIDIA GeForce RTX 3060");
    CHECK(gpus[0].memory_bytes == 12'288ull << 20);
    CHECK(gpus[0].free_bytes == 11'000ull << 20);
    CHECK(gpus[1].name == "Tesla, T4");
    CHECK(parse_gpus("").empty());
    CHECK(parse_gpus(",,\nNVIDIA-SMI has failed\nx, [N/A], 3\ny, 1, 2\n, 2, 1\n"
                     "z, 99999999999999999999, 1\n")
              .empty());
  }

  TEST_CASE("a program that lists cards may be absent, fail, or print them") {
    const Machine machine;
    HardwareOptions options{machine.folder.path(), "no-such-program-here"};
    CHECK(detect_hardware(options).gpus.empty());
    const auto program = [&](const std::string& body) {
      const fs::path path = machine.folder.write("list", "#!/bin/sh\n" + body + "\n");
      REQUIRE(::chmod(path.c_str(), 0700) == 0);
      options.gpu_program = path;
      return detect_hardware(options);
    };
    CHECK(program("echo 'A, 10, 5'; exit 9").gpus.empty());
    const Hardware found = program("echo 'A, 10, 5'");
    REQUIRE(found.gpus.size() == 1);
    CHECK(found.cpu == "Some CPU 3000");
    CHECK(describe(found).find("Some CPU 3000") == 0);
    CHECK(describe(found).find("avx2 fma avx512f avx512_vnni") != std::string::npos);
    CHECK(describe(found).find("8.2 GB free of 16.4 GB, A with") != std::string::npos);
  }

  TEST_CASE("this machine has memory") {
    const MemoryNow now = memory_now();
    CHECK(now.total_bytes > 0);
    CHECK(now.free_bytes <= now.total_bytes);
  }
}

}  // namespace farmesh::node
