// One kernel by itself on made-up numbers, for benchmarks: how long it takes beside what it must
// read and compute. Runs in libfarmesh_torch.so, as engines do.
#pragma once

#include <cstdint>
#include <variant>

#include <farmesh/kv_format.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

namespace farmesh::model {

/// y [rows, outs] = x [rows, cols] W^T, with the rounding or packing of x that the weights take.
struct ProductTrial {
  Precision precision = Precision::bf16;  // of the weights; not f16
  std::uint32_t rows = 1;
  std::uint32_t cols = 0;
  std::uint32_t outs = 0;
};

/// One row of one session over a cache of `context` positions, in one layer.
struct AttentionTrial {
  KvFormat kv = KvFormat::bf16;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t context = 0;
};

struct KernelTrial {
  std::variant<ProductTrial, AttentionTrial> kernel;
  int threads = 1;
};

struct KernelFigures {
  double seconds = 0;     // median of many runs, each over other weights or another cache
  double bytes = 0;       // of weights or cache that one run reads
  double operations = 0;  // multiplications and additions, each counted
};

/// Takes half a second or so, and half a gigabyte. Fails with engine_unavailable as load_engine()
/// does, with invalid_argument for sizes of 0, with out_of_memory.
Result<KernelFigures> try_kernel(const KernelTrial& trial);

}  // namespace farmesh::model
