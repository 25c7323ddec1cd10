// A weight matrix in the order its products read it, and the threaded product over it.
//
// Outputs are cut into panels of kLanes. A panel stores, input after input, one word for each of
// its outputs: an f32, or for bf16 two consecutive inputs of that output in one 32-bit word
// (first input in the low half). One row and a thousand rows stream the same bytes.
#pragma once

#include <cstdint>
#include <span>

#include "base/types.hpp"
#include "kernels/huge_buffer.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/thread_pool.hpp"

namespace farmesh::kernels {

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
  /// Stacks `parts`, each [rows, cols], and rounds or widens every weight to `dtype` (f32 or
  /// bf16). Throws std::bad_alloc.
  static PackedMatrix pack(ThreadPool& pool, DType dtype, std::span<const MatrixRows> parts,
                           std::int64_t cols);

  DType dtype() const noexcept { return dtype_; }
  std::int64_t outs() const noexcept { return outs_; }
  std::int64_t cols() const noexcept { return cols_; }
  std::uint64_t bytes() const noexcept { return memory_.size(); }
  const std::byte* panels() const noexcept { return memory_.data(); }

  /// Writes the weights of one output: [cols]. For embeddings, and for tests.
  void unpack_row(std::int64_t out, float* weights) const noexcept;

 private:
  DType dtype_ = DType::f32;
  std::int64_t outs_ = 0;
  std::int64_t cols_ = 0;
  HugeBuffer memory_;
};

/// Rows of activations: `stride` floats from one row to the next.
struct RowsView {
  float* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
};

/// y = x W^T + bias over all threads. x: [rows, cols]; y: [rows, outs]; bias: [outs rounded up
/// to kLanes], or null. Every output is one sum in the order of the inner dimension.
void multiply(ThreadPool& pool, const KernelTable& table, RowsView x, const PackedMatrix& matrix,
              const float* bias, RowsView y);

}  // namespace farmesh::kernels
