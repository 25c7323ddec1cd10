#include "model/torch/kernel_trial.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "base/float_formats.hpp"
#include "kernels/attention.hpp"
#include "kernels/packed_matrix.hpp"
#include "model/torch/kernel_choice.hpp"

namespace farmesh::model {
namespace {

using kernels::kLanes;

constexpr std::uint64_t kColdBytes = 256ULL << 20;  // far more than caches hold
constexpr std::uint64_t kMostCopies = 1'024;        // a large one is a mapping of its own
constexpr double kSeconds = 0.4;                    // of runs
constexpr std::size_t kLeastRuns = 5;

std::uint64_t copies_of(std::uint64_t bytes) {
  return std::min((kColdBytes + bytes - 1) / bytes, kMostCopies);
}

/// Median seconds of run(i), i counting up.
template <class Run>
double median_seconds(kernels::ThreadPool& pool, const Run& run) {
  const kernels::ThreadPool::Awake awake(pool);
  std::vector<double> seconds;
  double total = 0.0;
  run(0);  // touches everything once
  for (std::uint64_t i = 1; total < kSeconds || seconds.size() < kLeastRuns; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run(i);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    seconds.push_back(took.count());
    total += took.count();
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// Numbers of about the size that normed activations have.
std::vector<float> made_up(std::size_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> number(-1.0F, 1.0F);
  std::vector<float> numbers(count);
  for (float& value : numbers) value = number(random);
  return numbers;
}

KernelFigures run_product(kernels::ThreadPool& pool, const kernels::KernelTable& table,
                          const ProductTrial& trial) {
  const auto rows = std::int64_t{trial.rows};
  const auto cols = std::int64_t{trial.cols};
  const auto outs = std::int64_t{trial.outs};
  std::vector<kernels::PackedMatrix> matrices;
  {
    std::vector<std::uint16_t> weights(static_cast<std::size_t>(cols * outs));
    std::minstd_rand random(1);
    for (std::uint16_t& weight : weights) {
      weight = f32_to_bf16(static_cast<float>(random() % 255) / 127.0F - 1.0F);
    }
    const kernels::MatrixRows part{DType::bf16, reinterpret_cast<const std::byte*>(weights.data()),
                                   outs};
    matrices.push_back(kernels::PackedMatrix::pack(
        pool, table, format_of(trial.precision, MatrixRole::layer), {&part, 1}, cols));
  }
  const std::uint64_t copies = copies_of(matrices[0].bytes());
  while (matrices.size() < copies) {
    kernels::HugeBuffer memory(matrices[0].bytes());
    std::memcpy(memory.data(), matrices[0].panels(), memory.size());
    matrices.push_back(
        kernels::PackedMatrix::adopt(matrices[0].format(), outs, cols, std::move(memory)));
  }
  const std::int64_t x_stride = kernels::stride_of(cols);
  const std::int64_t y_stride = kernels::stride_of(outs);
  std::vector<float> x = made_up(static_cast<std::size_t>(rows * x_stride));
  std::vector<float> y(static_cast<std::size_t>(rows * y_stride));
  KernelFigures figures;
  figures.seconds = median_seconds(pool, [&](std::uint64_t i) {
    kernels::multiply(pool, table, {x.data(), x_stride, rows}, matrices[i % copies], nullptr,
                      {y.data(), y_stride, rows});
  });
  figures.bytes = static_cast<double>(matrices[0].bytes());
  figures.operations = 2.0 * trial.rows * trial.cols * trial.outs;
  return figures;
}

KernelFigures run_attention(kernels::ThreadPool& pool, const kernels::KernelTable& table,
                            const AttentionTrial& trial) {
  kernels::CacheView cache;
  cache.format = trial.kv;
  cache.kv_heads = trial.kv_heads;
  cache.head_dim = trial.head_dim;
  const auto key_page = static_cast<std::uint64_t>(cache.key_page_bytes());
  const auto value_page = static_cast<std::uint64_t>(cache.value_page_bytes());
  const std::uint64_t pages = (trial.context + kLanes - 1) / kLanes;
  const std::uint64_t copies = copies_of(pages * (key_page + value_page));
  kernels::HugeBuffer keys(copies * pages * key_page);
  kernels::HugeBuffer values(copies * pages * value_page);
  cache.keys = keys.data();
  cache.values = values.data();
  const std::vector<float> kv = made_up(std::size_t{trial.kv_heads} * trial.head_dim);
  for (std::int64_t slot = 0; slot < kLanes; ++slot) {
    kernels::store_position(table, cache, 0, slot, kv.data(), kv.data());
  }
  for (std::uint64_t page = 1; page < copies * pages; ++page) {
    std::memcpy(keys.data() + page * key_page, keys.data(), key_page);
    std::memcpy(values.data() + page * value_page, values.data(), value_page);
  }
  std::vector<std::uint32_t> numbers(pages);
  std::iota(numbers.begin(), numbers.end(), 0);
  const std::vector<float> q = made_up(std::size_t{trial.heads} * trial.head_dim);
  std::vector<float> out(q.size() + kLanes);
  kernels::AttentionArgs row;
  row.q = q.data();
  row.q_stride = row.out_stride = static_cast<std::int64_t>(q.size());
  row.out = out.data();
  row.pages = numbers.data();
  row.position = std::int64_t{trial.context} - 1;
  row.rows = 1;
  row.heads = trial.heads;
  row.scale = 1.0F / std::sqrt(static_cast<float>(trial.head_dim));
  KernelFigures figures;
  figures.seconds = median_seconds(pool, [&](std::uint64_t i) {
    kernels::CacheView layer = cache;
    layer.keys += i % copies * pages * key_page;
    layer.values += i % copies * pages * value_page;
    kernels::attend(pool, table, layer, {&row, 1});
  });
  figures.bytes = static_cast<double>(pages * (key_page + value_page));
  figures.operations = 4.0 * trial.context * trial.heads * trial.head_dim;
  return figures;
}

bool has_size(const ProductTrial& trial) {
  return trial.rows > 0 && trial.cols > 0 && trial.outs > 0 && trial.precision != Precision::f16;
}

bool has_size(const AttentionTrial& trial) {
  return trial.kv_heads > 0 && trial.heads > 0 && trial.heads % trial.kv_heads == 0 &&
         trial.head_dim > 0 && trial.context > 0;
}

}  // namespace

Result<KernelFigures> run_kernel(const KernelTrial& trial) {
  if (trial.threads < 1 ||
      !std::visit([](const auto& kernel) { return has_size(kernel); }, trial.kernel)) {
    return {Errc::invalid_argument, "a kernel's trial needs sizes above 0"};
  }
  const Result<kernels::Isa> isa = chosen_isa();
  if (!isa) return isa.error();
  const kernels::KernelTable& table = kernels::kernel_table(*isa);
  kernels::ThreadPool pool(trial.threads);
  if (const auto* product = std::get_if<ProductTrial>(&trial.kernel)) {
    return run_product(pool, table, *product);
  }
  return run_attention(pool, table, std::get<AttentionTrial>(trial.kernel));
}

}  // namespace farmesh::model
