// farmesh bench kernels: single products and attention, beside this machine's memory and
// arithmetic.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/bench.hpp"
#include "cli/terminal.hpp"
#include "model/kernel_trial.hpp"
#include "model/machine_probe.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

constexpr std::uint32_t kRows[] = {1, 8, 32, 512};
constexpr std::uint32_t kContext = 4'096;

/// A row is written once all kernels have run: its limits are medians over that time.
class KernelBench {
 public:
  explicit KernelBench(int threads) : threads_(threads), memory_(threads) {}

  /// What is computed in `precision` stands beside its arithmetic.
  Result<void> run(BenchRow row, model::KernelTrial trial, Precision precision) {
    trial.threads = threads_;
    bandwidths_.push_back(memory_.measure());
    rates_.push_back(model::measure_arithmetic(threads_));
    const Result<model::KernelFigures> figures = model::try_kernel(trial);
    if (!figures) return figures.error();
    runs_.push_back({std::move(row), *figures, precision});
    return {};
  }

  Rows rows() const {
    Rows rows;
    if (runs_.empty()) return rows;
    const double bandwidth = median(bandwidths_);
    for (const KernelRun& run : runs_) {
      std::vector<double> limits;
      for (const model::ArithmeticRates& rates : rates_) {
        limits.push_back(rates.limit_of(run.precision).rate);
      }
      rows.push_back(row_of(run, bandwidth, median(std::move(limits))));
    }
    return rows;
  }

 private:
  struct KernelRun {
    BenchRow row;
    model::KernelFigures figures;
    Precision precision;
  };

  /// Beside whichever of both limits, each a second, binds it.
  static BenchRow row_of(const KernelRun& run, double bandwidth, double operations) {
    const model::KernelFigures& figures = run.figures;
    const bool memory_bound = figures.bytes / bandwidth >= figures.operations / operations;
    BenchRow row = run.row;
    row.bench = "kernels";
    row.value = (memory_bound ? figures.bytes : figures.operations) / figures.seconds / 1e9;
    row.beside = fmt::format("{}; {:.1f} MB, {:.0f} µs", memory_bound ? "memory" : "arithmetic",
                             figures.bytes / 1e6, figures.seconds * 1e6);
    row.other = (memory_bound ? bandwidth : operations) / 1e9;
    row.unit = memory_bound ? "GB/s" : "Gop/s";
    return row;
  }

  int threads_;
  model::BandwidthProbe memory_;
  std::vector<double> bandwidths_;
  std::vector<model::ArithmeticRates> rates_;
  std::vector<KernelRun> runs_;
};

/// A layer's widest product, for few rows and many.
Result<void> run_products(KernelBench& bench, const std::string& shape,
                          const model::ModelConfig& config, Precision precision) {
  const std::uint32_t outs = (config.gated_mlp ? 2 : 1) * config.intermediate_size;
  for (const std::uint32_t count : kRows) {
    BenchRow row;
    row.shape = shape;
    row.what = fmt::format("{} {} x {}, {} row{}", name(precision), config.hidden_size, outs, count,
                           count == 1 ? "" : "s");
    const model::ProductTrial product{precision, count, config.hidden_size, outs};
    const Result<void> done = bench.run(std::move(row), {product, 1}, precision);
    if (!done) return done;
  }
  return {};
}

Result<void> run_attention(KernelBench& bench, const std::string& shape,
                           const model::ModelConfig& config, KvFormat kv) {
  BenchRow row;
  row.shape = shape;
  row.what = fmt::format("attention at {}, {} kv", kContext, name(kv));
  const model::AttentionTrial attention{kv, config.num_heads, config.num_kv_heads, config.head_dim,
                                        kContext};
  return bench.run(std::move(row), {attention, 1}, Precision::f32);
}

}  // namespace

Result<Rows> bench_kernels(const BenchOptions& options) {
  KernelBench bench(options.threads);
  for (const std::string& shape : options.shapes) {
    const Result<std::string> folder = synthetic_model(options, shape);
    if (!folder) return folder.error();
    const Result<model::ModelConfig> config = model::read_model_config(*folder);
    if (!config) return config.error();
    const Waiting waiting("kernels, " + shape);
    for (const Precision precision :
         asked_or(options.precisions, {Precision::bf16, Precision::int8, Precision::int4})) {
      const Result<void> done = run_products(bench, shape, *config, precision);
      if (!done) return done.error();
    }
    for (const KvFormat kv : asked_or(options.kvs, {KvFormat::bf16, KvFormat::int8})) {
      const Result<void> done = run_attention(bench, shape, *config, kv);
      if (!done) return done.error();
    }
  }
  return bench.rows();
}

}  // namespace farmesh::cli
