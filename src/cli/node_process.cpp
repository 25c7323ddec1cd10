#include "cli/node_process.hpp"

#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "cli/flags.hpp"

namespace farmesh::cli {
namespace {

/// "… layers A:B of N …"; none where the line says nothing of layers.
Span layers_of(const std::string& line) {
  constexpr std::string_view kBefore = " layers ";
  const std::size_t begin = line.find(kBefore);
  if (begin == std::string::npos) return {};
  const std::size_t text = begin + kBefore.size();
  const Result<Span> layers = parse_layers(line.substr(text, line.find(' ', text) - text));
  return layers ? *layers : Span();
}

}  // namespace

NodeProcess::NodeProcess(ChildProcess process, Span layers)
    : process_(std::move(process)), layers_(layers) {}

Result<NodeProcess> NodeProcess::start(const NodeArguments& arguments) {
  std::vector<std::string> argv{arguments.program, "node",     "--model",
                                arguments.model,   "--listen", arguments.listen};
  if (arguments.data_folder.empty()) {
    argv.emplace_back("--ephemeral");
  } else {
    argv.insert(argv.end(), {"--data-dir", arguments.data_folder});
  }
  if (!arguments.layers.empty()) {
    argv.push_back("--layers");
    argv.push_back(fmt::format("{}:{}", arguments.layers.begin, arguments.layers.end));
  }
  if (arguments.head) argv.emplace_back("--head");
  argv.insert(argv.end(), arguments.more.begin(), arguments.more.end());
  Result<ChildProcess> process = ChildProcess::start(argv);
  if (!process) return process.error();
  return NodeProcess(*std::move(process), arguments.layers);
}

Result<void> NodeProcess::await_listening(std::chrono::milliseconds patience) {
  constexpr std::string_view kBefore = "listening on ";
  const std::optional<std::string> line = process_.read_line(patience);
  if (line && line->starts_with(kBefore)) {
    const std::size_t end = line->find(' ', kBefore.size());
    address_ = line->substr(kBefore.size(), end - kBefore.size());
    layers_ = layers_of(*line);
    return {};
  }
  const std::optional<int> status = process_.ended();
  const std::string how =
      status ? fmt::format("ended with status {}", *status) : std::string("is silent for too long");
  const std::string said = process_.errors();
  return {Errc::timeout, "a node " + how + (said.empty() ? "" : "; it said: " + said)};
}

Result<Span> NodeProcess::await_move(std::chrono::milliseconds patience) {
  const std::optional<std::string> line = process_.read_line(patience);
  if (!line || !line->starts_with("serving ")) return {Errc::timeout, "a node stays where it is"};
  layers_ = layers_of(*line);
  return layers_;
}

std::vector<Span> even_split(std::uint32_t layers, std::uint32_t parts) {
  std::vector<Span> spans;
  std::uint32_t begin = 0;
  for (std::uint32_t part = 0; part < parts; ++part) {
    const std::uint32_t size = layers / parts + (part < layers % parts ? 1 : 0);
    spans.push_back({begin, begin + size});
    begin += size;
  }
  return spans;
}

}  // namespace farmesh::cli
