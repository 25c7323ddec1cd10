// The story of the demo: peers as processes, one of them killed while the reader watches.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

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

/// Tells it on standard output, then tells it again in one process. True when both are equal.
Result<bool> tell_story(const DemoOptions& options, std::uint32_t layers);

}  // namespace farmesh::cli
