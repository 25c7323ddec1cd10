#include "kernels/packed_matrix.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

/// Converts `count` elements of one row to `target` (f32 or bf16), contiguous; equal formats are
/// copied whole.
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

/// Four words of four rows, turned: turned[i] has word i of each.
void turn_4x4(const std::uint32_t* rows, std::int64_t row_stride, Words (&turned)[4]) {
  Words r[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], rows + i * row_stride, sizeof r[i]);
  const Words ab_low = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  const Words ab_high = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Words cd_low = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const Words cd_high = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  turned[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  turned[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  turned[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  turned[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/// The same, so that words of one input lie side by side in `out`.
void transpose_4x4(const std::uint32_t* rows, std::int64_t row_stride, std::uint32_t* out) {
  Words turned[4];
  turn_4x4(rows, row_stride, turned);
  for (int i = 0; i < 4; ++i) std::memcpy(out + i * kLanes, &turned[i], sizeof turned[i]);
}

/// Weights are read again only when all are packed: past the caches, which would first read the
/// lines that are written. `to` is aligned to a vector.
void stream(std::uint32_t* to, Words words) {
#if defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(words));
#else
  std::memcpy(to, &words, sizeof words);
#endif
}

/// Before other threads read what was streamed.
void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

std::int64_t panel_bytes(WeightFormat format, std::int64_t cols) {
  switch (format) {
    case WeightFormat::f32: return cols * kLanes * 4;
    case WeightFormat::bf16: return (cols + 1) / 2 * kLanes * 4;
    case WeightFormat::int8: return groups_of(cols) * (kGroup + 2) * kLanes;
    case WeightFormat::int4: return groups_of(cols) * (kGroup / 2 + 2) * kLanes;
  }
  return 0;
}

/// Where the kLanes outputs of a panel come from.
struct PanelRows {
  RowPlace rows[kLanes];

  PanelRows(std::span<const MatrixRows> parts, std::int64_t panel) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      rows[lane] = find_row(parts, panel * kLanes + lane);
    }
  }
  const std::byte* bytes(std::int64_t lane, std::int64_t cols) const {
    const RowPlace& at = rows[lane];
    return at.part->bytes + at.row * cols * static_cast<std::int64_t>(bytes_of(at.part->dtype));
  }
};

/// Words of kLanes rows, turned so that those of one input lie together.
void transpose(const std::uint32_t (&rows)[kLanes][kChunk], std::int64_t count,
               std::uint32_t* out) {
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    Words turned[kLanes / 4][4];
    for (std::int64_t four = 0; four < kLanes / 4; ++four) {
      turn_4x4(&rows[4 * four][i], kChunk, turned[four]);
    }
    for (std::int64_t word = 0; word < 4; ++word) {  // whole lines, one after the other
      for (std::int64_t four = 0; four < kLanes / 4; ++four) {
        stream(out + (i + word) * kLanes + 4 * four, turned[four][word]);
      }
    }
  }
  for (; i < count; ++i) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) out[i * kLanes + lane] = rows[lane][i];
  }
}

void pack_panel(WeightFormat format, std::span<const MatrixRows> parts, std::int64_t cols,
                std::int64_t panel, std::uint32_t* words) {
  const PanelRows from(parts, panel);
  const DType dtype = format == WeightFormat::f32 ? DType::f32 : DType::bf16;
  const std::int64_t steps = format == WeightFormat::f32 ? 1 : 2;
  alignas(64) std::uint32_t chunk[kLanes][kChunk];
  std::memset(chunk, 0, sizeof chunk);  // outputs past the last, and the half of an odd input
  for (std::int64_t first = 0; first < cols; first += kChunk) {
    const std::int64_t count = std::min(kChunk, cols - first);
    const std::int64_t count_words = (count + steps - 1) / steps;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      if (from.rows[lane].part == nullptr) continue;
      chunk[lane][count_words - 1] = 0;
      convert(from.rows[lane].part->dtype, from.bytes(lane, cols), first, count, dtype,
              reinterpret_cast<std::byte*>(chunk[lane]));
    }
    transpose(chunk, count_words, words + first / steps * kLanes);
  }
}

/// `count` elements of one row as f32.
void widen(const KernelTable& table, DType source, const std::byte* row, std::int64_t first,
           std::int64_t count, float* out) {
  if (source != DType::bf16) {
    convert(source, row, first, count, DType::f32, reinterpret_cast<std::byte*>(out));
    return;
  }
  std::uint16_t halves[kChunk];
  std::memcpy(halves, row + first * 2, static_cast<std::size_t>(count) * 2);
  table.widen_bf16(halves, out, count);
}

void quantise_panel(const KernelTable& table, WeightFormat format,
                    std::span<const MatrixRows> parts, std::int64_t cols, std::int64_t panel,
                    std::uint8_t* out) {
  const bool bytes = format == WeightFormat::int8;
  const auto quantise = bytes ? table.quantise_int8 : table.quantise_int4;
  const std::int64_t group_bytes = (bytes ? kGroup : kGroup / 2) * kLanes;
  constexpr std::int64_t kScales = 2 * kLanes * 2;  // bytes before each pair of groups
  static_assert(kChunk % (2 * kGroup) == 0);

  const PanelRows from(parts, panel);
  alignas(64) std::uint32_t chunk[kLanes][kChunk];
  alignas(64) std::uint32_t tile[kGroup * kLanes];
  std::memset(chunk, 0, sizeof chunk);  // outputs past the last
  for (std::int64_t first = 0; first < cols; first += kChunk) {
    const std::int64_t count = std::min(kChunk, cols - first);
    const std::int64_t padded = groups_of(count) * kGroup;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      if (from.rows[lane].part == nullptr) continue;
      auto* row = reinterpret_cast<float*>(chunk[lane]);
      widen(table, from.rows[lane].part->dtype, from.bytes(lane, cols), first, count, row);
      std::fill(row + count, row + padded, 0.0F);
    }
    for (std::int64_t group = 0; group < padded / kGroup; ++group) {
      for (std::int64_t i = 0; i < kGroup; i += 4) {
        for (std::int64_t lane = 0; lane < kLanes; lane += 4) {
          transpose_4x4(&chunk[lane][group * kGroup + i], kChunk, tile + i * kLanes + lane);
        }
      }
      const std::int64_t half = group % 2;
      quantise(reinterpret_cast<const float*>(tile), out + kScales + half * group_bytes,
               reinterpret_cast<std::uint16_t*>(out) + half * kLanes);
      if (half == 1) out += kScales + 2 * group_bytes;
    }
  }
}

/// Weight `k` of output `lane` of a quantised panel.
float dequantised(WeightFormat format, const std::uint8_t* panel, std::int64_t lane,
                  std::int64_t k) {
  const bool bytes = format == WeightFormat::int8;
  const std::int64_t group_bytes = (bytes ? kGroup : kGroup / 2) * kLanes;
  const std::int64_t half = k / kGroup % 2;
  const std::int64_t at = k % kGroup;
  const std::uint8_t* pair = panel + k / (2 * kGroup) * (4 * kLanes + 2 * group_bytes);
  std::uint16_t scale;
  std::memcpy(&scale, pair + (half * kLanes + lane) * 2, sizeof scale);
  const std::uint8_t* group = pair + 4 * kLanes + half * group_bytes;
  int weight = 0;
  if (bytes) {
    weight = group[at / 4 * 64 + lane * 4 + at % 4] - 128;
  } else {
    const int both = group[at / 8 * 64 + lane * 4 + at % 4];
    weight = (at % 8 < 4 ? both & 15 : both >> 4) - 8;
  }
  return static_cast<float>(weight) * bf16_to_f32(scale);
}

/// How rows are packed for products with a format.
struct RowPacking {
  void (*pack)(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
               void* packed);
  std::int64_t most;       // rows in a group
  std::int64_t row_words;  // of 32 bits
};

RowPacking packing_of(const KernelTable& table, const PackedMatrix& matrix) {
  const std::int64_t cols = matrix.cols();
  switch (matrix.format()) {
    case WeightFormat::f32: return {table.pack_rows_f32, table.product_rows, cols};
    case WeightFormat::bf16:
      return {table.pack_rows_bf16, table.product_rows, (cols + 1) / 2 * table.bf16_pair_words};
    case WeightFormat::int8:
    case WeightFormat::int4: break;
  }
  return {table.quantise_rows, table.quant_rows, groups_of(cols) * kGroupWords};
}

/// Packs rows of activations into the pool's shared scratch. `source`(first, count, worker) is a
/// view of `count` rows as they are multiplied.
template <class Source>
const void* packed_rows(ThreadPool& pool, const RowPacking& packing, std::int64_t rows,
                        std::int64_t cols, const Source& source) {
  float* packed = pool.shared_scratch(rows * packing.row_words);
  const RowGroups groups(rows, packing.most);
  pool.for_each(groups.count, 1, [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t first = groups.begin(group);
      const RowsView x = source(first, groups.size(group), worker);
      packing.pack(x.data, x.stride, x.rows, cols, packed + first * packing.row_words);
    }
  });
  return packed;
}

/// y = x W^T + bias of rows that are packed.
void multiply_packed(ThreadPool& pool, const KernelTable& table, const void* x,
                     const PackedMatrix& matrix, const float* bias, RowsView y) {
  ProductArgs args;
  args.x = x;
  args.y = y.data;
  args.y_stride = y.stride;
  args.rows = y.rows;
  args.cols = matrix.cols();
  args.outs = matrix.outs();
  args.panels = matrix.panels();
  args.bias = bias;
  const auto product = [&] {
    switch (matrix.format()) {
      case WeightFormat::f32: return table.product_f32;
      case WeightFormat::bf16: return table.product_bf16;
      case WeightFormat::int8: return table.product_int8;
      case WeightFormat::int4: break;
    }
    return table.product_int4;
  }();
  const std::int64_t panels = (args.outs + kLanes - 1) / kLanes;
  pool.for_each(panels, 4,
                [&](std::int64_t begin, std::int64_t end, int) { product(args, begin, end); });
}

}  // namespace

PackedMatrix PackedMatrix::pack(ThreadPool& pool, const KernelTable& table, WeightFormat format,
                                std::span<const MatrixRows> parts, std::int64_t cols) {
  PackedMatrix packed;
  packed.format_ = format;
  packed.cols_ = cols;
  for (const MatrixRows& part : parts) packed.outs_ += part.rows;
  const std::int64_t panels = (packed.outs_ + kLanes - 1) / kLanes;
  const std::int64_t bytes = panel_bytes(format, cols);
  packed.memory_ = HugeBuffer(static_cast<std::uint64_t>(panels * bytes));
  std::byte* memory = packed.memory_.data();
  pool.for_each(panels, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t panel = begin; panel < end; ++panel) {
      std::byte* to = memory + panel * bytes;
      if (quantised(format)) {
        quantise_panel(table, format, parts, cols, panel, reinterpret_cast<std::uint8_t*>(to));
      } else {
        pack_panel(format, parts, cols, panel, reinterpret_cast<std::uint32_t*>(to));
      }
    }
    end_stream();
  });
  return packed;
}

PackedMatrix PackedMatrix::adopt(WeightFormat format, std::int64_t outs, std::int64_t cols,
                                 HugeBuffer memory) {
  FARMESH_ASSERT(memory.size() == bytes_for(format, outs, cols));
  PackedMatrix packed;
  packed.format_ = format;
  packed.outs_ = outs;
  packed.cols_ = cols;
  packed.memory_ = std::move(memory);
  return packed;
}

std::uint64_t PackedMatrix::bytes_for(WeightFormat format, std::int64_t outs,
                                      std::int64_t cols) noexcept {
  return static_cast<std::uint64_t>((outs + kLanes - 1) / kLanes * panel_bytes(format, cols));
}

void PackedMatrix::unpack_row(std::int64_t out, float* weights) const noexcept {
  const std::byte* panel = memory_.data() + out / kLanes * panel_bytes(format_, cols_);
  const std::int64_t lane = out % kLanes;
  const auto* words = reinterpret_cast<const std::uint32_t*>(panel) + lane;
  for (std::int64_t k = 0; k < cols_; ++k) {
    if (format_ == WeightFormat::f32) {
      weights[k] = std::bit_cast<float>(words[k * kLanes]);
    } else if (format_ == WeightFormat::bf16) {
      const std::uint32_t pair = words[k / 2 * kLanes];
      weights[k] = bf16_to_f32(static_cast<std::uint16_t>(k % 2 == 0 ? pair : pair >> 16));
    } else {
      weights[k] = dequantised(format_, reinterpret_cast<const std::uint8_t*>(panel), lane, k);
    }
  }
}

PackingError packing_error(ThreadPool& pool, const PackedMatrix& packed,
                           std::span<const MatrixRows> parts) {
  struct Sums {
    double error = 0.0, weights = 0.0, worst = 0.0;
  };
  const std::int64_t cols = packed.cols();
  std::vector<Sums> by_row(static_cast<std::size_t>(packed.outs()));
  // Here, because the bodies below must not throw.
  for (int worker = 0; worker < pool.threads(); ++worker) pool.scratch(worker, cols);
  pool.for_each(packed.outs(), 16, [&](std::int64_t begin, std::int64_t end, int worker) {
    float* kept = pool.scratch(worker, cols);
    for (std::int64_t out = begin; out < end; ++out) {
      packed.unpack_row(out, kept);
      const RowPlace at = find_row(parts, out);
      const DType dtype = at.part->dtype;
      const std::byte* row =
          at.part->bytes + at.row * cols * static_cast<std::int64_t>(bytes_of(dtype));
      Sums& sums = by_row[static_cast<std::size_t>(out)];
      for (std::int64_t k = 0; k < cols; ++k) {
        const double weight = load_element(dtype, row, k);
        const double error = weight - static_cast<double>(kept[k]);
        sums.error += error * error;
        sums.weights += weight * weight;
        sums.worst = std::max(sums.worst, std::abs(error));
      }
    }
  });
  Sums all;
  for (const Sums& sums : by_row) {
    all.error += sums.error;
    all.weights += sums.weights;
    all.worst = std::max(all.worst, sums.worst);
  }
  if (all.weights == 0.0) return {};
  const double count = static_cast<double>(packed.outs()) * static_cast<double>(cols);
  return {std::sqrt(all.error / all.weights), all.worst / std::sqrt(all.weights / count)};
}

void multiply(ThreadPool& pool, const KernelTable& table, RowsView x, const PackedMatrix& matrix,
              const float* bias, RowsView y) {
  const auto packed = [&]() -> const void* {
    if (matrix.format() == WeightFormat::f32 && x.rows == 1) return x.data;  // packed as it is
    return packed_rows(pool, packing_of(table, matrix), x.rows, matrix.cols(),
                       [&](std::int64_t first, std::int64_t count, int) {
                         return RowsView{x.data + first * x.stride, x.stride, count};
                       });
  };
  multiply_packed(pool, table, packed(), matrix, bias, y);
}

void multiply(ThreadPool& pool, const KernelTable& table, RowsView x, const RowFunction& f,
              const PackedMatrix& matrix, const float* bias, RowsView y) {
  const RowPacking packing = packing_of(table, matrix);
  const std::int64_t stride = stride_of(matrix.cols());
  const std::int64_t floats = packing.most * stride;
  // Here, because the bodies below must not throw.
  for (int worker = 0; worker < pool.threads(); ++worker) pool.scratch(worker, floats);
  const void* packed = packed_rows(pool, packing, x.rows, matrix.cols(),
                                   [&](std::int64_t first, std::int64_t count, int worker) {
                                     float* made = pool.scratch(worker, floats);
                                     for (std::int64_t row = 0; row < count; ++row) {
                                       f(x.data + (first + row) * x.stride, made + row * stride);
                                     }
                                     return RowsView{made, stride, count};
                                   });
  multiply_packed(pool, table, packed, matrix, bias, y);
}

bool worth_fusing(const ThreadPool& pool, const KernelTable& table, const PackedMatrix& matrix,
                  std::int64_t rows) noexcept {
  constexpr std::int64_t kGroupsPerThread = 4;
  return RowGroups(rows, packing_of(table, matrix).most).count >= kGroupsPerThread * pool.threads();
}

}  // namespace farmesh::kernels
