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

/// What bounds a kernel: both measured before it.
struct Limits {
  double bytes = 0;       // a second
  double operations = 0;  // a second, of the kind that the kernel's weights take
};

class KernelBench {
 public:
  explicit KernelBench(int threads) : threads_(threads), memory_(threads) {}

  Result<void> append(BenchRow row, model::KernelTrial trial, bool bytes, Rows& rows) {
    trial.threads = threads_;
    const model::ArithmeticRates rates = model::measure_arithmetic(threads_);
    const Limits limits{memory_.measure(), bytes && rates.i8 > 0 ? rates.i8 : rates.f32};
    const Result<model::KernelFigures> figures = model::try_kernel(trial);
    if (!figures) return figures.error();
    const double reading = figures->bytes / limits.bytes;
    const double computing = figures->operations / limits.operations;
    const bool memory_bound = reading >= computing;
    row.bench = "kernels";
    row.value = (memory_bound ? figures->bytes : figures->operations) / figures->seconds / 1e9;
    row.beside = fmt::format("{}; {:.1f} MB, {:.0f} µs", memory_bound ? "memory" : "arithmetic",
                             figures->bytes / 1e6, figures->seconds * 1e6);
    row.other = (memory_bound ? limits.bytes : limits.operations) / 1e9;
    row.unit = memory_bound ? "GB/s" : "Gop/s";
    rows.push_back(std::move(row));
    return {};
  }

 private:
  int threads_;
  model::BandwidthProbe memory_;
};

/// A layer's widest product, for few rows and many.
Result<void> append_products(KernelBench& bench, const std::string& shape,
                             const model::ModelConfig& config, Precision precision, Rows& rows) {
  const bool bytes = precision == Precision::int8 || precision == Precision::int4;
  const std::uint32_t outs = (config.gated_mlp ? 2 : 1) * config.intermediate_size;
  for (const std::uint32_t count : kRows) {
    BenchRow row;
    row.shape = shape;
    row.what = fmt::format("{} {} x {}, {} row{}", name(precision), config.hidden_size, outs, count,
                           count == 1 ? "" : "s");
    const model::ProductTrial product{precision, count, config.hidden_size, outs};
    const Result<void> done = bench.append(std::move(row), {product, 1}, bytes, rows);
    if (!done) return done;
  }
  return {};
}

Result<void> append_attention(KernelBench& bench, const std::string& shape,
                              const model::ModelConfig& config, KvFormat kv, Rows& rows) {
  BenchRow row;
  row.shape = shape;
  row.what = fmt::format("attention at {}, {} kv", kContext, name(kv));
  const model::AttentionTrial attention{kv, config.num_heads, config.num_kv_heads, config.head_dim,
                                        kContext};
  return bench.append(std::move(row), {attention, 1}, false, rows);
}

}  // namespace

Result<Rows> bench_kernels(const BenchOptions& options) {
  Rows rows;
  KernelBench bench(options.threads);
  for (const std::string& shape : options.shapes) {
    const Result<std::string> folder = synthetic_model(options, shape);
    if (!folder) return folder.error();
    const Result<model::ModelConfig> config = model::read_model_config(*folder);
    if (!config) return config.error();
    const Waiting waiting("kernels, " + shape);
    for (const Precision precision :
         asked_or(options.precisions, {Precision::bf16, Precision::int8, Precision::int4})) {
      const Result<void> done = append_products(bench, shape, *config, precision, rows);
      if (!done) return done.error();
    }
    for (const KvFormat kv : asked_or(options.kvs, {KvFormat::bf16, KvFormat::int8})) {
      const Result<void> done = append_attention(bench, shape, *config, kv, rows);
      if (!done) return done.error();
    }
  }
  return rows;
}

}  // namespace farmesh::cli
