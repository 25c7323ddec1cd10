// What computes: one span of decoder layers and, optionally, the head, behind a torch-free face.
//
// Takes batches from serve/, gives hidden states and logits back. Implemented with libtorch in
// torch/ (libfarmesh_torch.so, opened by engine_loader.hpp); tests implement it with stand-ins.
//
// Threading: one thread at a time calls an engine (serve's compute thread). The engine's own
// pool of `threads` workers runs inside the call and sleeps between calls.
// Numerics: under Numerics::exact every output is a sum in one fixed order, so results do not
// depend on how rows are batched, chunked or threaded (docs/architecture.md, "One order").
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <farmesh/device.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "model/model_config.hpp"
#include "model/weight_source.hpp"

namespace farmesh::model {

/// The KV cache's format where none is asked for: the residual stream's own.
constexpr KvFormat usual_kv(Precision precision) noexcept {
  return residual_dtype(precision) == DType::f32 ? KvFormat::f32 : KvFormat::bf16;
}

constexpr Numerics usual_numerics(Device device) noexcept {
  return device.kind == DeviceKind::cpu ? Numerics::exact : Numerics::fused;
}

/// What rounding to a precision took from one matrix.
struct WeightError {
  double rms = 0.0;    // of the differences, relative to the weights' own
  double worst = 0.0;  // the largest difference, relative to the weights' rms
};

/// Where packed matrices are kept between runs, to be mapped. Files of another content, layout or
/// shape, and damaged ones, count as absent.
struct PackedFiles {
  std::filesystem::path folder;  // empty: nowhere
  ModelHash content;             // of the model that they were made of
  bool write = false;            // keep what is not there yet
};

/// Of a device, as it is now.
struct DeviceMemory {
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
};

/// Of a device, measured.
struct DeviceSpeed {
  double bytes_per_second = 0.0;  // read
  double f32_per_second = 0.0;    // multiplications and additions in large products, each counted
  double bf16_per_second = 0.0;   // the same
};

struct EngineOptions {
  Span blocks;        // layers to hold, half-open; empty for a head alone
  bool head = false;  // embedding, final norm and LM head
  Precision precision = Precision::bf16;
  std::optional<KvFormat> kv;  // nothing: usual_kv(); int8 takes exact numerics
  Device device;
  std::optional<Numerics> numerics;  // nothing: usual_numerics(); a GPU has no others
  int threads = 0;                   // 0: one per available core
  /// Binds them to cores, one each, from this one of those available on; nothing: unbound. Of
  /// exact numerics. The caller is one of them, and stays bound once it called.
  std::optional<int> pin_threads;
  /// Called while weights load with (bytes done, bytes in all); may be empty.
  std::function<void(std::uint64_t, std::uint64_t)> on_progress;
  /// Called for each matrix of int8 or int4 weights with the tensors stacked in it, their bytes
  /// in memory and what quantising took from them; may be empty. Measuring takes time.
  std::function<void(const std::vector<std::string>& tensors, std::uint64_t bytes,
                     const WeightError& error)>
      on_quantised;
  PackedFiles packed;
};

struct EngineInfo {
  Span blocks;
  bool head = false;
  DType residual = DType::bf16;
  std::uint32_t hidden_size = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t page_tokens = 16;  // positions in one KV page
  std::uint64_t page_bytes = 0;    // one page over all held layers
  std::uint64_t weight_bytes = 0;  // resident weights
  std::uint64_t step_bytes = 0;    // of them, what a step reads: no embedding table of its own
  std::string numerics_class;      // such as "bf16/exact-2/fma", "bf16/fused/torch-2.9.0/cuda"
};

/// One session's consecutive rows in a batch.
struct SequenceRows {
  /// pages[i] holds positions [i * page_tokens, (i + 1) * page_tokens).
  std::span<const std::uint32_t> pages;
  std::uint32_t position = 0;  // of the first row; the cache holds everything before it
  std::uint32_t rows = 0;
  ByteView input;          // [rows, hidden] in the residual dtype
  MutableByteView output;  // the same shape; must not overlap input
};

class StageEngine {
 public:
  virtual ~StageEngine() = default;

  virtual const EngineInfo& info() const noexcept = 0;

  /// Allocates the KV cache: `count` pages, numbered from 0. Called once, before forward().
  /// Fails with out_of_memory and leaves nothing allocated.
  virtual Result<void> reserve_pages(std::uint32_t count) = 0;

  /// Runs layers `blocks` (inside info().blocks) over all sequences in one pass, writing K and V
  /// of every row into its pages. Sequences are distinct sessions. Fails with compute_failed;
  /// the pages of these rows are then undefined, everything earlier is untouched.
  virtual Result<void> forward(Span blocks, std::span<const SequenceRows> batch) = 0;

  /// Copies one page, all layers: for a session that diverges inside a shared page.
  virtual Result<void> copy_page(std::uint32_t from, std::uint32_t to) = 0;

  /// hidden[i] = embedding[ids[i]]; [ids.size(), hidden] in the residual dtype.
  /// Fails with bad_payload when an id is outside the vocabulary.
  virtual Result<void> embed(std::span<const TokenId> ids, MutableByteView hidden) = 0;

  /// logits = lm_head(norm(hidden)); hidden: [rows, hidden] in the residual dtype; logits: f32
  /// [rows, vocab].
  virtual Result<void> logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) = 0;
};

}  // namespace farmesh::model
