// farmesh bench load: how long a node takes to begin, how much memory at its largest, and how soon
// a model whose files are in the page cache tells its first token.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "cli/bench.hpp"
#include "cli/child_process.hpp"
#include "cli/node_process.hpp"
#include "cli/terminal.hpp"
#include "model/machine_probe.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

constexpr double kMega = 1e6;
constexpr double kFactor = 1.15;
constexpr double kConstant = 300;  // MB
constexpr double kFirstToken = 1;  // seconds, of the 1.1b shape
constexpr std::chrono::seconds kPatience{60};

Result<double> tensor_megabytes(const std::string& path) {
  const auto folder = model::ModelFolder::open(path);
  if (!folder) return folder.error();
  double bytes = 0;
  for (const model::SafetensorsEntry& entry : (*folder)->tensors()) {
    bytes += double(entry.end - entry.begin);
  }
  return bytes / kMega;
}

/// Seconds from the start of a process with the whole model to its first token.
Result<double> first_token(const BenchOptions& options, const std::string& folder) {
  const auto began = std::chrono::steady_clock::now();
  Result<ChildProcess> process =
      ChildProcess::start({own_program(), "generate", "--model", folder, "--local", "--threads",
                           std::to_string(options.threads), "--prompt", "A", "--temperature", "0",
                           "--max-tokens", "1", "--ignore-eos", "--json"});
  if (!process) return process.error();
  const bool told = process->read_line(kPatience).has_value();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  process->read_all();
  if (!told || process->wait() != 0) return {Errc::compute_failed, process->errors()};
  return took.count();
}

/// Keeps the model's matrices as they are computed with, beside it.
Result<void> pack(const std::string& folder) {
  Result<ChildProcess> process = ChildProcess::start(
      {own_program(), "model", "quantize", folder, "--precision", "bf16", "--keep"});
  if (!process) return process.error();
  process->read_all();
  if (process->wait() != 0) return {Errc::io_error, process->errors()};
  return {};
}

void unpack(const std::string& folder) {
  std::error_code ignored;  // there may be nothing
  std::filesystem::remove_all(std::filesystem::path(folder) / "packed", ignored);
}

struct FirstToken {
  double seconds = 0;
  double rate = 0;  // bytes a second, of a probe after each round
};

Result<FirstToken> median_first_token(const BenchOptions& options, const std::string& folder) {
  std::vector<double> seconds;
  std::vector<double> rates;
  for (int round = -1; round < options.rounds; ++round) {  // the first one fills the page cache
    const Result<double> took = first_token(options, folder);
    if (!took) return took.error();
    const double rate = model::BandwidthProbe(options.threads).measure();
    if (round < 0) continue;
    seconds.push_back(*took);
    rates.push_back(rate);
  }
  return FirstToken{median(std::move(seconds)), median(std::move(rates))};
}

/// From the model's own files, which are read, written and read once more for the token; and from
/// packed ones, which are read for their checksums and for the token. Beside the time in which
/// memory carries that.
Result<Rows> first_tokens_of(const BenchOptions& options, const std::string& shape,
                             const std::string& folder, double tensor_bytes) {
  const Waiting waiting("first token, " + shape);
  const Result<FirstToken> plain = median_first_token(options, folder);
  if (!plain) return plain.error();
  if (const Result<void> kept = pack(folder); !kept) return kept.error();
  const Result<FirstToken> mapped = median_first_token(options, folder);
  unpack(folder);
  if (!mapped) return mapped.error();

  BenchRow whole{"load",
                 shape,
                 "first token, files in page cache",
                 plain->seconds,
                 "3 x its tensors at bandwidth",
                 3 * tensor_bytes / plain->rate,
                 "s"};
  BenchRow fast = whole;
  fast.what = "the same, packed";
  fast.value = mapped->seconds;
  fast.beside = "2 x its tensors at bandwidth";
  fast.other = 2 * tensor_bytes / mapped->rate;
  if (shape == "1.1b") {
    fast.bound = "under 1 s";
    fast.held = fast.value < kFirstToken;
  }
  return Rows{std::move(whole), std::move(fast)};
}

Result<Rows> load_of(const BenchOptions& options, const std::string& shape) {
  const Result<std::string> folder = synthetic_model(options, shape);
  if (!folder) return folder.error();
  const Result<double> tensors = tensor_megabytes(*folder);
  if (!tensors) return tensors.error();
  const Result<model::ModelConfig> config = model::read_model_config(*folder);
  if (!config) return config.error();

  unpack(*folder);
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
  Result<Rows> first = first_tokens_of(options, shape, *folder, *tensors * kMega);
  if (!first) return first.error();
  first->insert(first->begin(), {std::move(memory), std::move(time)});
  return first;
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
