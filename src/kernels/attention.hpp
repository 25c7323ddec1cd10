// The key and value pages of one layer, and threaded attention over them.
#pragma once

#include <cstdint>
#include <span>

#include <farmesh/kv_format.hpp>

#include "kernels/kernel_table.hpp"
#include "kernels/thread_pool.hpp"

namespace farmesh::kernels {

/// One layer's cache, pages numbered from 0. Layout of a page: kernel_table.hpp.
struct CacheView {
  KvFormat format = KvFormat::bf16;
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;

  /// Bytes of one page.
  std::int64_t key_page_bytes() const noexcept {
    return kv_heads * key_block_bytes(format, head_dim);
  }
  std::int64_t value_page_bytes() const noexcept {
    return kv_heads * value_block_bytes(format, head_dim);
  }
};

/// Writes one position's keys and values, each [kv_heads * head_dim], rounding to the cache's
/// format: once, so that whoever reads them later reads the same. `slot` is the position inside the
/// page.
void store_position(const KernelTable& table, const CacheView& cache, std::uint32_t page,
                    std::int64_t slot, const float* keys, const float* values);

/// Causal attention of every sequence over its pages. Fields q, out, strides, pages, position,
/// rows, window, heads and scale of each item are the caller's; the cache's are filled in here.
/// Throws std::bad_alloc when scratch memory for a long context cannot be had.
void attend(ThreadPool& pool, const KernelTable& table, const CacheView& cache,
            std::span<const AttentionArgs> sequences);

}  // namespace farmesh::kernels
