// farmesh bench chain: what splitting a model over processes costs on one machine, with threads
// where the system puts them and bound to cores.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <farmesh/farmesh.hpp>

#include "cli/bench.hpp"
#include "cli/node_process.hpp"
#include "cli/terminal.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

constexpr std::uint32_t kPeers = 3;
constexpr double kFloor = 0.97;

Result<std::vector<NodeProcess>> start_nodes(const std::string& model, Precision precision,
                                             int threads, std::optional<int> pin_threads) {
  const Result<model::ModelConfig> config = model::read_model_config(model);
  if (!config) return config.error();
  std::vector<std::string> more = {"--threads", std::to_string(threads), "--precision",
                                   std::string(name(precision))};
  if (pin_threads) more.insert(more.end(), {"--pin-threads", std::to_string(*pin_threads)});
  std::vector<NodeProcess> nodes;
  for (const Span span : even_split(config->num_layers, kPeers)) {
    Result<NodeProcess> node = NodeProcess::start(
        {.program = own_program(), .model = model, .layers = span, .more = more});
    if (!node) return node.error();
    nodes.push_back(*std::move(node));
  }
  for (NodeProcess& node : nodes) {
    if (const Result<void> ready = node.await_listening(); !ready) return ready.error();
  }
  return nodes;
}

Result<BenchRow> chain_of(const BenchOptions& options, const std::string& shape,
                          Precision precision, std::optional<int> pin_threads) {
  const Result<std::string> folder = synthetic_model(options, shape);
  if (!folder) return folder.error();
  Waiting waiting("chain, " + shape);
  const Result<std::vector<NodeProcess>> nodes =
      start_nodes(*folder, precision, options.threads, pin_threads);
  if (!nodes) return nodes.error();

  ModelOptions split_options{.folder = *folder,
                             .precision = precision,
                             .threads = options.threads,
                             .pin_threads = pin_threads};
  for (const NodeProcess& node : *nodes) split_options.peers.push_back(node.address());
  const Result<DistributedModel> split = DistributedModel::open(split_options);
  if (!split) return split.error();
  const Result<DistributedModel> whole = DistributedModel::open({.folder = *folder,
                                                                 .local = true,
                                                                 .precision = precision,
                                                                 .threads = options.threads,
                                                                 .pin_threads = pin_threads});
  if (!whole) return whole.error();

  const std::uint32_t tokens = shape == "160m" ? 96 : 24;
  std::vector<double> split_speeds;
  std::vector<double> whole_speeds;
  for (int round = -1; round < options.rounds; ++round) {  // the first one only warms up
    const Result<double> in_parts = decode_speed(*split, tokens);
    if (!in_parts) return in_parts.error();
    const Result<double> in_one = decode_speed(*whole, tokens);
    if (!in_one) return in_one.error();
    if (round < 0) continue;
    split_speeds.push_back(*in_parts);
    whole_speeds.push_back(*in_one);
  }
  BenchRow row{"chain",
               shape,
               fmt::format("{}, three peers{}", name(precision), pin_threads ? ", bound" : ""),
               median(split_speeds),
               "one process",
               median(whole_speeds),
               "tokens/s"};
  if (shape == "1.1b" && precision == Precision::bf16 && !pin_threads) {
    row.bound = fmt::format("ratio at least {}", kFloor);
    row.held = row.ratio() >= kFloor;
  }
  return row;
}

}  // namespace

Result<Rows> bench_chain(const BenchOptions& options) {
  Rows rows;
  for (const std::string& shape : options.shapes) {
    for (const Precision precision : asked_or(options.precisions, {Precision::bf16})) {
      for (const std::optional<int> pin_threads : {std::optional<int>(), std::optional<int>(0)}) {
        Result<BenchRow> row = chain_of(options, shape, precision, pin_threads);
        if (!row) return row.error();
        rows.push_back(*std::move(row));
      }
    }
  }
  return rows;
}

}  // namespace farmesh::cli
