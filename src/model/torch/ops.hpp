// The arithmetic that a block is made of: the seam between the block and what computes it.
//
// ExactOps runs our kernels (Numerics::exact), TorchOps libtorch's plain functions in f32
// (Numerics::fast), FusedOps its fused ones on any device (Numerics::fused). Another weight format
// is another implementation of this class; the block does not change.
//
// Activations are views [rows, columns] of the Workspace, in the dtype and on the device that the
// Ops likes; row r of each belongs to row r of the Batch. Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "model/model_config.hpp"
#include "model/stage_engine.hpp"
#include "model/torch/compute_device.hpp"
#include "model/torch/torch.hpp"
#include "model/weight_source.hpp"

namespace farmesh::model {

/// Consecutive rows of one session.
struct BatchSequence {
  std::span<const std::uint32_t> pages;  // pages[i]: positions [i * page_tokens, ...)
  std::int64_t position = 0;             // of the first row
  std::int64_t rows = 0;
  std::int64_t first_row = 0;  // in the batch
};

struct Batch {
  std::vector<BatchSequence> sequences;
  std::int64_t rows = 0;
};

/// A weight matrix [out, in] in the form its Ops computes with. Immutable.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual std::uint64_t bytes() const = 0;
};

struct Norm {
  NormKind kind = NormKind::rms;
  double eps = 0.0;
  at::Tensor weight;  // f32 [n]
  at::Tensor bias;    // f32 [n], undefined for rms
};

/// Keys and values of one layer; the first dimension counts pages, the rest is the Ops' own.
struct LayerCache {
  at::Tensor keys;
  at::Tensor values;
};

/// What a matrix is for: those of the vocabulary are kept in int8 where layers are in int4, since
/// every token's probability hangs on each of their rows.
enum class MatrixRole : std::uint8_t { layer, vocabulary };

class Ops {
 public:
  virtual ~Ops() = default;

  /// Stacks row-major [*, cols] tensors on top of each other. Keeps no reference to them. `key`
  /// names the stack within the model.
  virtual std::shared_ptr<const Matrix> matrix(std::span<const TensorView> parts, MatrixRole role,
                                               const std::string& key) = 0;
  /// What rounding took from `parts`, of which `matrix` was made; nothing where it took nothing
  /// worth telling.
  virtual std::optional<WeightError> error_of(const Matrix& matrix,
                                              std::span<const TensorView> parts) = 0;
  /// Concatenates vectors as f32.
  virtual at::Tensor vector(std::span<const TensorView> parts) = 0;
  /// Pages of undefined content; throws std::bad_alloc or c10::Error.
  virtual LayerCache cache(std::uint32_t pages) = 0;
  /// Bytes of one page of one layer, keys and values.
  virtual std::uint64_t page_bytes() const = 0;
  /// [rows, columns], uninitialised, rows laid out as this Ops likes them.
  virtual at::Tensor activations(std::int64_t rows, std::int64_t columns) = 0;
  /// The same for the residual stream.
  virtual at::Tensor residual_stream(std::int64_t rows, std::int64_t columns) {
    return activations(rows, columns);
  }

  /// Between the residual stream and bytes in its dtype: parts of whole rows, in their order.
  virtual void read_residual(std::span<const ByteView> parts, const at::Tensor& hidden) = 0;
  virtual void write_residual(const at::Tensor& hidden, std::span<const MutableByteView> parts) = 0;
  /// hidden[i] = row ids[i] of `embedding`.
  virtual void embed(const Matrix& embedding, std::span<const TokenId> ids,
                     const at::Tensor& hidden) = 0;

  /// Does body(batch), the work of `layers` on a batch, which calls the functions below; the batch
  /// that it is given may have no sequences. The body may be kept, and run again for batches of the
  /// same shape until activations() is called next: it holds no reference to what ends earlier.
  virtual void run(const Batch& batch, std::uint64_t /*layers*/,
                   const std::function<void(const Batch&)>& body) {
    body(batch);
  }

  /// out = norm(x) over the last dimension.
  virtual void norm(const at::Tensor& x, const Norm& norm, const at::Tensor& out) = 0;
  /// out = x W^T + bias; `bias` may be undefined.
  virtual void linear(const at::Tensor& x, const Matrix& weights, const at::Tensor& bias,
                      const at::Tensor& out) = 0;
  /// out = norm(x) W^T + bias; `room`, as large as x, may hold what comes between.
  virtual void norm_linear(const at::Tensor& x, const Norm& norm, const Matrix& weights,
                           const at::Tensor& bias, const at::Tensor& room, const at::Tensor& out) {
    this->norm(x, norm, room);
    linear(room, weights, bias, out);
  }
  /// out = x W^T: row-major [rows, vocabulary], in host memory.
  virtual void logits(const at::Tensor& x, const Matrix& weights, std::span<float> out) {
    const std::int64_t rows = x.size(0);
    const auto columns = static_cast<std::int64_t>(out.size()) / rows;
    linear(x, weights, {}, at::from_blob(out.data(), {rows, columns}, at::kFloat));
  }
  /// qkv [rows, q | k | v]: norms q and k by head where the norms' weights are defined, rotates
  /// both by position, writes k and v into the cache; q stays in place.
  virtual void rotate_and_store(const at::Tensor& qkv, const Norm& q_norm, const Norm& k_norm,
                                const Batch& batch, const LayerCache& cache) = 0;
  /// Causal attention of the q columns over the cache; each row sees `window` positions, 0: all.
  virtual void attend(const at::Tensor& qkv, const Batch& batch, const LayerCache& cache,
                      std::uint32_t window, const at::Tensor& out) = 0;
  /// Gated: wide [rows, gate | up], its first half becomes act(gate) * up; else act(wide).
  virtual void activate(const at::Tensor& wide, Activation activation, bool gated) = 0;
  /// out = x W^T + bias, x being what activate() makes of `wide`, whose content is lost.
  virtual void activate_linear(const at::Tensor& wide, Activation activation, bool gated,
                               const Matrix& weights, const at::Tensor& bias,
                               const at::Tensor& out) {
    activate(wide, activation, gated);
    linear(gated ? wide.narrow(1, 0, wide.size(1) / 2) : wide, weights, bias, out);
  }
  /// hidden += delta
  virtual void add(const at::Tensor& hidden, const at::Tensor& delta) = 0;
  /// hidden += delta, rounded to the residual dtype: the end of a block.
  virtual void add_rounded(const at::Tensor& hidden, const at::Tensor& delta) = 0;

  /// From here to its end the caller computes without pause (RAII; may be null).
  class Pass {
   public:
    virtual ~Pass() = default;
  };
  virtual std::unique_ptr<Pass> begin_pass() { return nullptr; }
};

struct OpsOptions {
  Precision weights = Precision::bf16;  // f16: fused ops on a GPU; fast ops: f32 or bf16
  DType residual = DType::bf16;
  KvFormat kv = KvFormat::bf16;  // int8: exact ops
  int threads = 1;
  std::optional<int> pin_threads;  // exact ops: to cores, from this one of those available on
  PackedFiles packed;
};

/// Our kernels. Fails with config_invalid when FARMESH_ISA names no instruction set of this CPU.
Result<std::unique_ptr<Ops>> make_exact_ops(const ModelConfig& config, const OpsOptions& options);
/// libtorch's plain functions in f32, on its own threads: an independent reference of the others.
std::unique_ptr<Ops> make_torch_ops(const ModelConfig& config, const OpsOptions& options);
/// libtorch's fused functions on `device`, activations in the weights' dtype.
std::unique_ptr<Ops> make_fused_ops(const ModelConfig& config, const OpsOptions& options,
                                    std::unique_ptr<ComputeDevice> device);

inline constexpr std::uint32_t kPageTokens = 16;

}  // namespace farmesh::model
