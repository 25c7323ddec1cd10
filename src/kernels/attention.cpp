#include "kernels/attention.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/float_formats.hpp"

namespace farmesh::kernels {
namespace {

template <class T, class Round>
void scatter_keys(const CacheView& cache, std::uint32_t page, std::int64_t slot, const float* keys,
                  const Round& round) {
  T* out = reinterpret_cast<T*>(cache.keys + page * cache.key_page_bytes()) + slot;
  for (std::int64_t i = 0; i < cache.kv_heads * cache.head_dim; ++i) {
    out[i * kLanes] = round(keys[i]);
  }
}

/// One piece of work: some query vectors of one kv head of one sequence.
struct Chunk {
  const AttentionArgs* sequence;
  std::int64_t kv_head, begin, end;
};

}  // namespace

void store_position(const KernelTable& table, const CacheView& cache, std::uint32_t page,
                    std::int64_t slot, const float* keys, const float* values) {
  const bool narrow = cache.dtype == DType::bf16;
  if (narrow) {
    scatter_keys<std::uint16_t>(cache, page, slot, keys, f32_to_bf16);
  } else {
    scatter_keys<float>(cache, page, slot, keys, [](float key) { return key; });
  }
  std::byte* value_page = cache.values + page * cache.value_page_bytes();
  for (std::int64_t head = 0; head < cache.kv_heads; ++head) {
    const std::int64_t at = (head * kLanes + slot) * cache.value_dim();
    const float* from = values + head * cache.head_dim;
    if (narrow) {
      table.narrow_bf16(from, reinterpret_cast<std::uint16_t*>(value_page) + at, cache.head_dim);
    } else {
      std::memcpy(reinterpret_cast<float*>(value_page) + at, from,
                  static_cast<std::size_t>(cache.head_dim) * sizeof(float));
    }
  }
}

void attend(ThreadPool& pool, const KernelTable& table, const CacheView& cache,
            std::span<const AttentionArgs> sequences) {
  std::vector<AttentionArgs> filled(sequences.begin(), sequences.end());
  std::vector<Chunk> chunks;
  std::int64_t scratch_floats = 0;
  for (AttentionArgs& args : filled) {
    args.keys = cache.keys;
    args.values = cache.values;
    args.kv_heads = cache.kv_heads;
    args.head_dim = cache.head_dim;
    scratch_floats = std::max(scratch_floats, attention_scratch_floats(table, args, args.rows - 1));
    const std::int64_t vectors = args.rows * args.group();
    for (std::int64_t head = 0; head < args.kv_heads; ++head) {
      for (std::int64_t begin = 0; begin < vectors; begin += table.attention_rows) {
        chunks.push_back({&args, head, begin, std::min(begin + table.attention_rows, vectors)});
      }
    }
  }
  // Here, because the bodies below must not throw.
  for (int worker = 0; worker < pool.threads(); ++worker) pool.scratch(worker, scratch_floats);
  const auto attention = cache.dtype == DType::f32 ? table.attention_f32 : table.attention_bf16;
  pool.for_each(static_cast<std::int64_t>(chunks.size()), 1,
                [&](std::int64_t begin, std::int64_t end, int worker) {
                  for (std::int64_t i = begin; i < end; ++i) {
                    const Chunk& chunk = chunks[static_cast<std::size_t>(i)];
                    attention(*chunk.sequence, chunk.kv_head, chunk.begin, chunk.end,
                              pool.scratch(worker, scratch_floats));
                  }
                });
}

}  // namespace farmesh::kernels
