// farmesh bench load: how long a node takes to begin, and how much memory at its largest.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "cli/bench.hpp"
#include "cli/node_process.hpp"
#include "cli/terminal.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

constexpr double kMega = 1e6;
constexpr double kFactor = 1.15;
constexpr double kConstant = 300;  // MB

Result<double> tensor_megabytes(const std::string& path) {
  const auto folder = model::ModelFolder::open(path);
  if (!folder) return folder.error();
  double bytes = 0;
  for (const model::SafetensorsEntry& entry : (*folder)->tensors()) {
    bytes += double(entry.end - entry.begin);
  }
  return bytes / kMega;
}

Result<Rows> load_of(const BenchOptions& options, const std::string& shape) {
  const Result<std::string> folder = synthetic_model(options, shape);
  if (!folder) return folder.error();
  const Result<double> tensors = tensor_megabytes(*folder);
  if (!tensors) return tensors.error();
  const Result<model::ModelConfig> config = model::read_model_config(*folder);
  if (!config) return config.error();

  const Waiting waiting("load, " + shape);
  std::vector<double> seconds;
  double peak = 0;
  for (int round = 0; round < options.rounds; ++round) {
    const auto began = std::chrono::steady_clock::now();
    Result<NodeProcess> node =
        NodeProcess::start({.program = own_program(),
                            .model = *folder,
                            .layers = {0, config->num_layers},
                            .head = true,
                            .more = {"--threads", std::to_string(options.threads)}});
    if (!node) return node.error();
    if (const Result<void> ready = node->await_listening(); !ready) return ready.error();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    seconds.push_back(took.count());
    peak = std::max(peak, double(node->process().peak_resident_bytes()) / kMega);
  }

  BenchRow memory{"load", shape, "largest memory of a node", peak, "its tensors", *tensors, "MB"};
  memory.bound = "at most 1.15 x + 300 MB";
  memory.held = peak <= kFactor * *tensors + kConstant;
  BenchRow time{"load", shape, "start of a node", median(seconds), "", 0, "s"};
  return Rows{std::move(memory), std::move(time)};
}

}  // namespace

Result<Rows> bench_load(const BenchOptions& options) {
  Rows rows;
  for (const std::string& shape : options.shapes) {
    const Result<Rows> of_shape = load_of(options, shape);
    if (!of_shape) return of_shape.error();
    rows.insert(rows.end(), of_shape->begin(), of_shape->end());
  }
  return rows;
}

}  // namespace farmesh::cli
