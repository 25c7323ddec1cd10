#include "kernels/packed_matrix.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "base/float_formats.hpp"

namespace farmesh::kernels {
namespace {

constexpr std::int64_t kChunk = 512;  // inputs converted at a time: 16 rows of them fit in L1

float load_element(DType dtype, const std::byte* bytes, std::int64_t index) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, bytes + index * 4, 4);
    return value;
  }
  std::uint16_t value;
  std::memcpy(&value, bytes + index * 2, 2);
  return dtype == DType::bf16 ? bf16_to_f32(value) : f16_to_f32(value);
}

/// Converts `count` elements of one row to `target`, contiguous; equal formats are copied whole.
void convert(DType source, const std::byte* row, std::int64_t first, std::int64_t count,
             DType target, std::byte* out) {
  const auto size = static_cast<std::int64_t>(bytes_of(target));
  if (source == target) {
    std::memcpy(out, row + first * size, static_cast<std::size_t>(count * size));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = load_element(source, row, first + i);
    if (target == DType::f32) {
      std::memcpy(out + i * 4, &value, 4);
    } else {
      const std::uint16_t narrow = f32_to_bf16(value);
      std::memcpy(out + i * 2, &narrow, 2);
    }
  }
}

struct RowPlace {
  const MatrixRows* part = nullptr;  // null past the last output
  std::int64_t row = 0;
};

RowPlace find_row(std::span<const MatrixRows> parts, std::int64_t row) {
  for (const MatrixRows& part : parts) {
    if (row < part.rows) return {&part, row};
    row -= part.rows;
  }
  return {};
}

using Words = std::uint32_t __attribute__((vector_size(16)));

/// Four words of four rows, turned, so that words of one input lie side by side.
void transpose_4x4(const std::uint32_t* rows, std::int64_t row_stride, std::uint32_t* out) {
  Words r[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], rows + i * row_stride, sizeof r[i]);
  const Words ab_low = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  const Words ab_high = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Words cd_low = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const Words cd_high = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  const Words turned[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                           __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                           __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                           __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(out + i * kLanes, &turned[i], sizeof turned[i]);
}

std::int64_t words_per_panel(DType dtype, std::int64_t cols) {
  return (dtype == DType::f32 ? cols : (cols + 1) / 2) * kLanes;
}

void pack_panel(DType dtype, std::span<const MatrixRows> parts, std::int64_t cols,
                std::int64_t panel, std::uint32_t* words) {
  RowPlace rows[kLanes];
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    rows[lane] = find_row(parts, panel * kLanes + lane);
  }
  const std::int64_t steps = dtype == DType::f32 ? 1 : 2;
  alignas(64) std::uint32_t chunk[kLanes][kChunk];
  std::memset(chunk, 0, sizeof chunk);  // outputs past the last, and the half of an odd input
  for (std::int64_t first = 0; first < cols; first += kChunk) {
    const std::int64_t count = std::min(kChunk, cols - first);
    const std::int64_t count_words = (count + steps - 1) / steps;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const RowPlace& at = rows[lane];
      if (at.part == nullptr) continue;
      chunk[lane][count_words - 1] = 0;
      const auto row_bytes = cols * static_cast<std::int64_t>(bytes_of(at.part->dtype));
      convert(at.part->dtype, at.part->bytes + at.row * row_bytes, first, count, dtype,
              reinterpret_cast<std::byte*>(chunk[lane]));
    }
    std::uint32_t* out = words + first / steps * kLanes;
    std::int64_t i = 0;
    for (; i + 4 <= count_words; i += 4) {
      for (std::int64_t lane = 0; lane < kLanes; lane += 4) {
        transpose_4x4(&chunk[lane][i], kChunk, out + i * kLanes + lane);
      }
    }
    for (; i < count_words; ++i) {
      for (std::int64_t lane = 0; lane < kLanes; ++lane) out[i * kLanes + lane] = chunk[lane][i];
    }
  }
}

}  // namespace

PackedMatrix PackedMatrix::pack(ThreadPool& pool, DType dtype, std::span<const MatrixRows> parts,
                                std::int64_t cols) {
  FARMESH_ASSERT(dtype == DType::f32 || dtype == DType::bf16);
  PackedMatrix packed;
  packed.dtype_ = dtype;
  packed.cols_ = cols;
  for (const MatrixRows& part : parts) packed.outs_ += part.rows;
  const std::int64_t panels = (packed.outs_ + kLanes - 1) / kLanes;
  const std::int64_t panel_words = words_per_panel(dtype, cols);
  packed.memory_ = HugeBuffer(static_cast<std::uint64_t>(panels * panel_words) * 4);
  auto* words = reinterpret_cast<std::uint32_t*>(packed.memory_.data());
  pool.for_each(panels, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t panel = begin; panel < end; ++panel) {
      pack_panel(dtype, parts, cols, panel, words + panel * panel_words);
    }
  });
  return packed;
}

void PackedMatrix::unpack_row(std::int64_t out, float* weights) const noexcept {
  const auto* words = reinterpret_cast<const std::uint32_t*>(memory_.data()) +
                      out / kLanes * words_per_panel(dtype_, cols_) + out % kLanes;
  for (std::int64_t k = 0; k < cols_; ++k) {
    if (dtype_ == DType::f32) {
      weights[k] = std::bit_cast<float>(words[k * kLanes]);
    } else {
      const std::uint32_t pair = words[k / 2 * kLanes];
      weights[k] = bf16_to_f32(static_cast<std::uint16_t>(k % 2 == 0 ? pair : pair >> 16));
    }
  }
}

void multiply(ThreadPool& pool, const KernelTable& table, RowsView x, const PackedMatrix& matrix,
              const float* bias, RowsView y) {
  ProductArgs args;
  args.x = x.data;
  if (x.rows > 1) {  // one row is packed as it is
    float* packed = pool.shared_scratch(x.rows * matrix.cols());
    const std::int64_t groups = (x.rows + table.product_rows - 1) / table.product_rows;
    pool.for_each(groups, 1, [&](std::int64_t begin, std::int64_t end, int) {
      table.pack_rows(x.data, x.stride, x.rows, matrix.cols(), begin, end, packed);
    });
    args.x = packed;
  }
  args.y = y.data;
  args.y_stride = y.stride;
  args.rows = x.rows;
  args.cols = matrix.cols();
  args.outs = matrix.outs();
  args.panels = matrix.panels();
  args.bias = bias;
  const auto product = matrix.dtype() == DType::f32 ? table.product_f32 : table.product_bf16;
  const std::int64_t panels = (args.outs + kLanes - 1) / kLanes;
  pool.for_each(panels, 4,
                [&](std::int64_t begin, std::int64_t end, int) { product(args, begin, end); });
}

}  // namespace farmesh::kernels
