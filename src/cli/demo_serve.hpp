// The demo's last part: a coordinator over the peers of the story, for anybody with curl.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::cli {

struct DemoServeOptions {
  std::string model;               // folder
  std::vector<std::string> peers;  // that live
  std::string prompt;
  /// Called when the curl line is on the screen; the coordinator ends when it returns. Empty: the
  /// line is run once, as it was printed, and must stream.
  std::function<void()> wait;
};

/// Fails with io_error or timeout when the coordinator does not start, or its line does not stream.
Result<void> serve_demo(const DemoServeOptions& options);

}  // namespace farmesh::cli
