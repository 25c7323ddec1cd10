// The story of the demo: peers as processes, one of them killed while the reader watches.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>
#include <farmesh/session.hpp>

namespace farmesh::cli {

struct DemoOptions {
  std::string model;  // folder
  std::string prompt = "Once upon a time";
  GenerateOptions generate;
  std::uint32_t kill_at = 40;  // tokens
  std::chrono::milliseconds pace{0};
};

/// Given the addresses of the peers that are left.
using Afterwards = std::function<Result<void>(const std::vector<std::string>& peers)>;

/// Tells it on standard output, then tells it again in one process. True when both are equal: then
/// `afterwards` is called, unless it is empty, while the peers still live.
Result<bool> tell_story(const DemoOptions& options, std::uint32_t layers,
                        const Afterwards& afterwards);

}  // namespace farmesh::cli
