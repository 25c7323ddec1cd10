// A weight matrix in the order its products read it, and the threaded product over it.
//
// Outputs are cut into panels of kLanes. A panel stores, input after input, one word for each of
// its outputs: an f32, or for bf16 two consecutive inputs of that output in one 32-bit word
// (first input in the low half). One row and a thousand rows stream the same bytes.
//
// A quantised panel stores pairs of groups of kGroup inputs. A pair is 2 x kLanes scales in bf16,
// then the weights of one group and of the other, in lines of 64 bytes: bytes 4i to 4i + 3 of line
// n are output i's, in int8 the weights + 128 of inputs 4n to 4n + 3, in int4 the weights + 8 of
// inputs 8n to 8n + 3 (low halves) and of the next four (high halves).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/types.hpp"
#include "kernels/huge_buffer.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/thread_pool.hpp"

namespace farmesh::kernels {

/// What a weight is rounded to: int8 is 8.5 bits with its share of a scale, int4 4.5 bits.
enum class WeightFormat : std::uint8_t { f32, bf16, int8, int4 };

constexpr bool quantised(WeightFormat format) noexcept {
  return format == WeightFormat::int8 || format == WeightFormat::int4;
}

/// Rows of a row-major matrix in a file's own format; no alignment needed.
struct MatrixRows {
  DType dtype = DType::f32;  // f32, bf16 or f16
  const std::byte* bytes = nullptr;
  std::int64_t rows = 0;
};

/// Immutable once packed; may be read from several threads.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Stacks `parts`, each [rows, cols], and rounds or widens every weight to `format`: the same
  /// bytes on every instruction set. Throws std::bad_alloc.
  static PackedMatrix pack(ThreadPool& pool, const KernelTable& table, WeightFormat format,
                           std::span<const MatrixRows> parts, std::int64_t cols);

  /// A matrix whose panels were packed before: bytes_for() bytes of it.
  static PackedMatrix adopt(WeightFormat format, std::int64_t outs, std::int64_t cols,
                            HugeBuffer memory);
  static std::uint64_t bytes_for(WeightFormat format, std::int64_t outs,
                                 std::int64_t cols) noexcept;

  WeightFormat format() const noexcept { return format_; }
  std::int64_t outs() const noexcept { return outs_; }
  std::int64_t cols() const noexcept { return cols_; }
  std::uint64_t bytes() const noexcept { return memory_.size(); }
  const std::byte* panels() const noexcept { return memory_.data(); }

  /// Writes the weights of one output: [cols]. For embeddings, and for tests.
  void unpack_row(std::int64_t out, float* weights) const noexcept;

 private:
  WeightFormat format_ = WeightFormat::f32;
  std::int64_t outs_ = 0;
  std::int64_t cols_ = 0;
  HugeBuffer memory_;
};

/// What rounding took from a matrix.
struct PackingError {
  double rms = 0.0;    // of the differences, relative to the weights' own
  double worst = 0.0;  // largest difference, relative to the weights' rms
};

/// Compares `packed` with what it was packed from.
PackingError packing_error(ThreadPool& pool, const PackedMatrix& packed,
                           std::span<const MatrixRows> parts);

/// Rows of activations: `stride` floats from one row to the next.
struct RowsView {
  float* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
};

/// A stride for rows of `cols` floats, an odd number of cache lines: equal columns of many rows
/// must not share one cache set.
constexpr std::int64_t stride_of(std::int64_t cols) noexcept {
  return (cols + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes) + kLanes;
}

/// y = x W^T + bias over all threads. x: [rows, cols]; y: [rows, outs]; bias: [outs rounded up
/// to kLanes], or null. Every output is one sum in the order of the inner dimension. With bf16
/// weights the rows are rounded to bf16 first, with quantised ones they are quantised, each group
/// of inputs by itself.
void multiply(ThreadPool& pool, const KernelTable& table, RowsView x, const PackedMatrix& matrix,
              const float* bias, RowsView y);

/// Makes of one row another one, [cols]; must not throw.
using RowFunction = std::function<void(const float* row, float* made)>;

/// y = f(x) W^T + bias, where f makes every row, as long as it likes, one of [cols]. The thread
/// that packs a group of rows makes them just before, in memory of its own: they are never written
/// to a [rows, cols] of their own.
void multiply(ThreadPool& pool, const KernelTable& table, RowsView x, const RowFunction& f,
              const PackedMatrix& matrix, const float* bias, RowsView y);

/// Whether that pays: the rows of a whole prefill outgrow the caches, and are groups enough to
/// keep all threads equally busy. Fewer rows are better made one by one, over all threads.
bool worth_fusing(const ThreadPool& pool, const KernelTable& table, const PackedMatrix& matrix,
                  std::int64_t rows) noexcept;

}  // namespace farmesh::kernels
