// The inner loops, as a table of functions compiled once per instruction set.
//
// One order: every result is a sum taken in an order fixed by the shapes alone. Products and
// attention vectorise across outputs and accumulate along the inner dimension in sequence with
// fused multiply-adds; reductions keep 16 lanes and fold them as a fixed tree. Hence the bits do
// not depend on rows per call, on threads, or on the instruction set.
//
// With bf16 weights the inputs are rounded to bf16 too, and inputs 2i + 1 and 2i of an output are
// added in this order, each with one rounding, subnormal numbers taken as zeros: what AVX-512 BF16
// computes (VDPBF16PS in Intel's manual of instructions), and others in steps.
//
// All functions are pure over the memory they are given and may run concurrently on disjoint
// outputs. Pointers need no alignment. Counts are elements, not bytes.
#pragma once

#include <cstdint>

#include <farmesh/kv_format.hpp>

#include "kernels/isa.hpp"

namespace farmesh::kernels {

/// Outputs per panel of a packed matrix, and lanes of a vector, on every instruction set.
inline constexpr std::int64_t kLanes = 16;

/// Inputs that share a scale, in quantised weights and in the rows they are multiplied with.
inline constexpr std::int64_t kGroup = 32;
/// Groups of an inner dimension of `cols`: in pairs, zeros behind the last input.
constexpr std::int64_t groups_of(std::int64_t cols) noexcept {
  return (cols + 2 * kGroup - 1) / (2 * kGroup) * 2;
}
/// One row's inputs of one group as quantise_rows writes them: kGroup signed bytes, the scale as
/// an f32, and minus the sum of the bytes.
inline constexpr std::int64_t kGroupWords = kGroup / 4 + 2;

enum class Act : std::uint8_t { silu, gelu, gelu_tanh, relu };
inline constexpr int kActs = 4;

/// y = x W^T + bias.
struct ProductArgs {
  const void* x = nullptr;  // as KernelTable::pack_rows_* or quantise_rows writes them
  float* y = nullptr;       // [rows, outs]
  std::int64_t y_stride = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t outs = 0;
  const void* panels = nullptr;  // PackedMatrix::panels()
  const float* bias = nullptr;   // [outs rounded up to kLanes], or null
};

// A page of keys is a block for each kv head, and so is a page of values. In f32 and bf16 a block
// of keys is [head_dim, kLanes positions], one of values [kLanes positions,
// value_dim_of(head_dim)].
//
// In int8 head_dim is cut into groups of kGroup, the last one filled up with zeros. A block of keys
// is their lines, [groups, kGroup / 4, kLanes positions, 4] bytes, each a key + 128; then scales in
// bf16, [groups + 1, kLanes positions]: of the keys' groups and, last, of the values, which are
// read soon after; up to a multiple of 64 bytes. Values lie as above, as signed bytes.
[[gnu::always_inline]] constexpr std::int64_t value_dim_of(std::int64_t head_dim) noexcept {
  return (head_dim + kLanes - 1) / kLanes * kLanes;
}
[[gnu::always_inline]] constexpr std::int64_t key_groups_of(std::int64_t head_dim) noexcept {
  return (head_dim + kGroup - 1) / kGroup;
}
/// Bytes of the keys in a block of int8 ones: what the scales follow.
[[gnu::always_inline]] constexpr std::int64_t byte_keys_of(std::int64_t head_dim) noexcept {
  return key_groups_of(head_dim) * kGroup * kLanes;
}
[[gnu::always_inline]] constexpr std::int64_t key_block_bytes(KvFormat format,
                                                              std::int64_t head_dim) noexcept {
  if (format != KvFormat::int8) return head_dim * kLanes * (format == KvFormat::f32 ? 4 : 2);
  const std::int64_t scales = (key_groups_of(head_dim) + 1) * kLanes * 2;
  return byte_keys_of(head_dim) + (scales + 63) / 64 * 64;
}
[[gnu::always_inline]] constexpr std::int64_t value_block_bytes(KvFormat format,
                                                                std::int64_t head_dim) noexcept {
  const std::int64_t bytes = format == KvFormat::f32 ? 4 : format == KvFormat::bf16 ? 2 : 1;
  return value_dim_of(head_dim) * kLanes * bytes;
}

/// One sequence's attention in one layer.
struct AttentionArgs {
  const float* q = nullptr;  // [rows, heads * head_dim]
  std::int64_t q_stride = 0;
  float* out = nullptr;  // [rows, heads * head_dim]
  std::int64_t out_stride = 0;
  const void* keys = nullptr;            // page 0 of this layer
  const void* values = nullptr;          // page 0 of this layer
  const std::uint32_t* pages = nullptr;  // pages[i] holds positions [i * kLanes, (i + 1) * kLanes)
  std::int64_t position = 0;             // of row 0
  std::int64_t rows = 0;
  std::int64_t window = 0;  // positions a row sees, itself included; 0: all before it
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  float scale = 0.0F;

  [[gnu::always_inline]] std::int64_t group() const noexcept { return heads / kv_heads; }
  [[gnu::always_inline]] std::int64_t value_dim() const noexcept { return value_dim_of(head_dim); }
};

/// The groups that a product takes its rows in, as even as can be: of 13 rows with at most 12 in a
/// group 7 and 6, not 12 and 1.
struct RowGroups {
  std::int64_t rows, count;

  [[gnu::always_inline]] constexpr RowGroups(std::int64_t all, std::int64_t most) noexcept
      : rows(all), count((all + most - 1) / most) {}
  [[gnu::always_inline]] constexpr std::int64_t begin(std::int64_t group) const noexcept {
    const std::int64_t longer = rows % count;
    return group * (rows / count) + (group < longer ? group : longer);
  }
  [[gnu::always_inline]] constexpr std::int64_t size(std::int64_t group) const noexcept {
    return begin(group + 1) - begin(group);
  }
};

struct KernelTable {
  Isa isa = Isa::portable;
  std::int64_t product_rows = 0;    // rows one register tile holds
  std::int64_t quant_rows = 0;      // the same for quantised weights
  std::int64_t attention_rows = 0;  // query vectors one call of attention_* takes at most

  /// Packs one group of at most product_rows rows for product_f32, which expects the groups of
  /// RowGroups one behind the other: [rows * cols] words of 32 bits.
  void (*pack_rows_f32)(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
                        void* packed) = nullptr;
  /// The same for product_bf16: [rows * (cols + 1) / 2 * bf16_pair_words].
  void (*pack_rows_bf16)(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
                         void* packed) = nullptr;
  std::int64_t bf16_pair_words = 0;  // for two inputs
  /// Panels [begin, end): outputs [begin * kLanes, min(outs, end * kLanes)).
  void (*product_f32)(const ProductArgs&, std::int64_t begin, std::int64_t end) = nullptr;
  void (*product_bf16)(const ProductArgs&, std::int64_t begin, std::int64_t end) = nullptr;

  /// The same for product_int8 and product_int4, at most quant_rows rows: each input rounded to a
  /// 127th of the largest of its kGroup; [rows * groups_of(cols) * kGroupWords].
  void (*quantise_rows)(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t cols,
                        void* packed) = nullptr;
  /// The sum within a group is exact, in integers; over the groups it is taken in sequence.
  void (*product_int8)(const ProductArgs&, std::int64_t begin, std::int64_t end) = nullptr;
  void (*product_int4)(const ProductArgs&, std::int64_t begin, std::int64_t end) = nullptr;

  /// Quantises one group of kLanes outputs: tile [kGroup inputs][kLanes outputs] -> scales, bf16
  /// [kLanes], and weights as a panel holds them (packed_matrix.hpp). Scales minimise the squared
  /// error of int4; of int8 the largest weight is 127 scales.
  void (*quantise_int8)(const float* tile, std::uint8_t* weights, std::uint16_t* scales) = nullptr;
  void (*quantise_int4)(const float* tile, std::uint8_t* weights, std::uint16_t* scales) = nullptr;

  /// One position of one kv head into its blocks of an int8 page: the keys of a group rounded to a
  /// 127th of the largest of them, the values to one of theirs. Where one is infinite or NaN, their
  /// scale is NaN.
  void (*store_int8)(const float* key, const float* value, std::int64_t head_dim, std::int64_t slot,
                     std::uint8_t* key_block, std::uint8_t* value_block) = nullptr;

  /// Query vectors [begin, end) of one kv head: vector v is row v / group, head
  /// kv_head * group + v % group. `scratch` holds attention_scratch_floats().
  void (*attention_f32)(const AttentionArgs&, std::int64_t kv_head, std::int64_t begin,
                        std::int64_t end, float* scratch) = nullptr;
  void (*attention_bf16)(const AttentionArgs&, std::int64_t kv_head, std::int64_t begin,
                         std::int64_t end, float* scratch) = nullptr;
  /// Rounds the query as quantise_rows does: scores are then exact within a group, as products are.
  void (*attention_int8)(const AttentionArgs&, std::int64_t kv_head, std::int64_t begin,
                         std::int64_t end, float* scratch) = nullptr;

  /// y = x / sqrt(mean(x^2) + eps) * weight; x and y may be the same.
  void (*rms_norm)(const float* x, const float* weight, float eps, float* y,
                   std::int64_t n) = nullptr;
  /// y = (x - mean) / sqrt(variance + eps) * weight + bias; x and y may be the same.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, float* y,
                     std::int64_t n) = nullptr;
  /// Half-split rotary pairs in place: (x[i], x[i + n/2]) by angle i. cos, sin: [n / 2].
  void (*rotate)(float* x, const float* cos, const float* sin, std::int64_t n) = nullptr;
  /// y = act(x), in place allowed.
  void (*activate[kActs])(const float* x, float* y, std::int64_t n) = {};
  /// y = act(gate) * up; y may be gate.
  void (*activate_gated[kActs])(const float* gate, const float* up, float* y, std::int64_t n) = {};
  /// x += y
  void (*add)(float* x, const float* y, std::int64_t n) = nullptr;
  /// x = the bf16 nearest to x + y, as f32
  void (*add_round_bf16)(float* x, const float* y, std::int64_t n) = nullptr;
  void (*widen_bf16)(const std::uint16_t* x, float* y, std::int64_t n) = nullptr;
  void (*narrow_bf16)(const float* x, std::uint16_t* y, std::int64_t n) = nullptr;
};

/// Floats of scratch for one query vector, in whichever form its scores take it.
[[gnu::always_inline]] constexpr std::int64_t query_floats(std::int64_t head_dim) noexcept {
  const std::int64_t words = key_groups_of(head_dim) * kGroupWords;
  return words > head_dim ? words : head_dim;
}

/// Floats of scratch one attention_* call needs for query vectors up to row `last_row`.
inline std::int64_t attention_scratch_floats(const KernelTable& table, const AttentionArgs& args,
                                             std::int64_t last_row) noexcept {
  const std::int64_t positions = (args.position + last_row + 1 + 2 * kLanes) / kLanes * kLanes;
  return table.attention_rows * (query_floats(args.head_dim) + positions + kLanes);
}

/// The table of a usable() instruction set.
const KernelTable& kernel_table(Isa isa) noexcept;

}  // namespace farmesh::kernels
