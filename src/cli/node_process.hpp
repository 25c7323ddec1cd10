// `farmesh node` as a child process on loopback: what the demo, the benchmarks and the tests
// build their swarms of.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

#include "cli/child_process.hpp"

namespace farmesh::cli {

struct NodeArguments {
  std::string program;  // of farmesh
  std::string model;    // folder
  Span layers;          // empty: none are named
  bool head = false;
  std::string listen = "127.0.0.1:0";
  std::string data_folder;        // that keeps its key; empty: a key for this process alone
  std::vector<std::string> more;  // further flags
};

class NodeProcess {
 public:
  /// Starts it and returns at once, so that several load side by side. Fails with io_error.
  static Result<NodeProcess> start(const NodeArguments& arguments);

  /// Waits for the line that tells its address. Fails with timeout, or with what the process
  /// said before it ended.
  Result<void> await_listening(std::chrono::milliseconds patience = std::chrono::minutes(5));

  /// Waits until it tells that it has gone to other layers. Fails with timeout.
  Result<Span> await_move(std::chrono::milliseconds patience);

  const std::string& address() const noexcept { return address_; }
  Span layers() const noexcept { return layers_; }  // as it told
  ChildProcess& process() noexcept { return process_; }
  const ChildProcess& process() const noexcept { return process_; }

 private:
  NodeProcess(ChildProcess process, Span layers);

  ChildProcess process_;
  Span layers_;
  std::string address_;
};

/// [0, layers) in `parts` runs as even as can be, longer ones first.
std::vector<Span> even_split(std::uint32_t layers, std::uint32_t parts);

}  // namespace farmesh::cli
