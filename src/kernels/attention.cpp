#include "kernels/attention.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/float_formats.hpp"

namespace farmesh::kernels {
namespace {

template <class T, class Round>
void scatter_keys(const float* keys, std::int64_t head_dim, std::int64_t slot, std::byte* block,
                  const Round& round) {
  T* out = reinterpret_cast<T*>(block) + slot;
  for (std::int64_t d = 0; d < head_dim; ++d) out[d * kLanes] = round(keys[d]);
}

/// One position of one kv head into its blocks of a page.
void store_head(const KernelTable& table, KvFormat format, std::int64_t head_dim, std::int64_t slot,
                const float* keys, const float* values, std::byte* key_block,
                std::byte* value_block) {
  const std::int64_t at = slot * value_dim_of(head_dim);
  switch (format) {
    case KvFormat::f32:
      scatter_keys<float>(keys, head_dim, slot, key_block, [](float key) { return key; });
      std::memcpy(reinterpret_cast<float*>(value_block) + at, values,
                  static_cast<std::size_t>(head_dim) * sizeof(float));
      return;
    case KvFormat::bf16:
      scatter_keys<std::uint16_t>(keys, head_dim, slot, key_block, f32_to_bf16);
      table.narrow_bf16(values, reinterpret_cast<std::uint16_t*>(value_block) + at, head_dim);
      return;
    case KvFormat::int8:
      table.store_int8(keys, values, head_dim, slot, reinterpret_cast<std::uint8_t*>(key_block),
                       reinterpret_cast<std::uint8_t*>(value_block));
      return;
  }
}

auto attention_of(const KernelTable& table, KvFormat format) {
  switch (format) {
    case KvFormat::f32: return table.attention_f32;
    case KvFormat::bf16: return table.attention_bf16;
    case KvFormat::int8: break;
  }
  return table.attention_int8;
}

/// One piece of work: some query vectors of one kv head of one sequence.
struct Chunk {
  const AttentionArgs* sequence;
  std::int64_t kv_head, begin, end;
};

}  // namespace

void store_position(const KernelTable& table, const CacheView& cache, std::uint32_t page,
                    std::int64_t slot, const float* keys, const float* values) {
  std::byte* key_block = cache.keys + page * cache.key_page_bytes();
  std::byte* value_block = cache.values + page * cache.value_page_bytes();
  for (std::int64_t head = 0; head < cache.kv_heads; ++head) {
    store_head(table, cache.format, cache.head_dim, slot, keys, values, key_block, value_block);
    keys += cache.head_dim;
    values += cache.head_dim;
    key_block += key_block_bytes(cache.format, cache.head_dim);
    value_block += value_block_bytes(cache.format, cache.head_dim);
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
  const auto attention = attention_of(table, cache.format);
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
