// Ops on libtorch's plain functions in f32: Numerics::fast, the independent reference of the
// others.
#include <cmath>
#include <cstring>

#include "kernels/rope_table.hpp"
#include "model/rope.hpp"
#include "model/torch/library.hpp"
#include "model/torch/ops.hpp"

namespace farmesh::model {
namespace {

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::bf16: return at::kBFloat16;
    case DType::f16: return at::kHalf;
    default: return at::kFloat;
  }
}

class TorchMatrix final : public Matrix {
 public:
  explicit TorchMatrix(at::Tensor tensor) : weights(std::move(tensor)) {}
  std::uint64_t bytes() const override { return weights.nbytes(); }

  at::Tensor weights;  // [out, in]
};

const at::Tensor& weights_of(const Matrix& matrix) {
  return static_cast<const TorchMatrix&>(matrix).weights;
}

class TorchOps final : public Ops {
 public:
  TorchOps(const ModelConfig& config, const OpsOptions& options)
      : config_(config),
        weights_(options.weights == Precision::f32 ? at::kFloat : at::kBFloat16),
        residual_(scalar_type(options.residual)),
        kept_(options.kv == KvFormat::f32 ? at::kFloat : at::kBFloat16),
        rope_(config.head_dim / 2, rope_magnitude(config.rope),
              [config](std::uint64_t position, std::vector<double>& out) {
                rope_frequencies(config, position, out);
              }) {
    at::set_num_threads(options.threads);
  }

  std::shared_ptr<const Matrix> matrix(std::span<const TensorView> parts, MatrixRole,
                                       const std::string&) override {
    std::int64_t rows = 0;
    for (const TensorView& part : parts) rows += static_cast<std::int64_t>(part.shape[0]);
    const auto cols = static_cast<std::int64_t>(parts[0].shape[1]);
    at::Tensor stacked = at::empty({rows, cols}, weights_);
    fill(parts, stacked);
    return std::make_shared<TorchMatrix>(stacked);
  }

  std::optional<WeightError> error_of(const Matrix&, std::span<const TensorView>) override {
    return std::nullopt;
  }

  at::Tensor vector(std::span<const TensorView> parts) override {
    std::int64_t size = 0;
    for (const TensorView& part : parts) size += static_cast<std::int64_t>(part.shape[0]);
    at::Tensor joined = at::empty({size}, at::kFloat);
    fill(parts, joined);
    return joined;
  }

  // Pages: [page, position, kv head, head_dim].
  LayerCache cache(std::uint32_t pages) override {
    const std::vector<std::int64_t> shape{pages, kPageTokens, config_.num_kv_heads,
                                          config_.head_dim};
    return {at::empty(shape, kept_), at::empty(shape, kept_)};
  }

  std::uint64_t page_bytes() const override {
    return 2ULL * kPageTokens * config_.kv_size() * at::elementSize(kept_);
  }

  at::Tensor activations(std::int64_t rows, std::int64_t columns) override {
    return at::empty({rows, columns}, at::kFloat);
  }

  void read_residual(std::span<const ByteView> parts, const at::Tensor& hidden) override {
    at::Tensor rows = at::empty(hidden.sizes(), residual_);
    auto* to = static_cast<std::byte*>(rows.data_ptr());
    for (const ByteView part : parts) {
      std::memcpy(to, part.data(), part.size());
      to += part.size();
    }
    hidden.copy_(rows);
  }

  void write_residual(const at::Tensor& hidden, std::span<const MutableByteView> parts) override {
    const at::Tensor rows = hidden.to(residual_).contiguous();
    const auto* from = static_cast<const std::byte*>(rows.data_ptr());
    for (const MutableByteView part : parts) {
      std::memcpy(part.data(), from, part.size());
      from += part.size();
    }
  }

  void embed(const Matrix& embedding, std::span<const TokenId> ids,
             const at::Tensor& hidden) override {
    const std::vector<std::int64_t> rows(ids.begin(), ids.end());
    hidden.copy_(weights_of(embedding).index_select(0, at::tensor(rows, at::kLong)));
  }

  void norm(const at::Tensor& x, const Norm& norm, const at::Tensor& out) override {
    if (norm.kind == NormKind::layer) {
      out.copy_(at::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, norm.eps));
      return;
    }
    const at::Tensor scale = x.square().mean(-1, true).add(norm.eps).rsqrt();
    out.copy_(x.mul(scale).mul(norm.weight));
  }

  void linear(const at::Tensor& x, const Matrix& weights, const at::Tensor& bias,
              const at::Tensor& out) override {
    out.copy_(at::linear(x.to(weights_), weights_of(weights)));
    if (bias.defined()) out.add_(bias);
  }

  void rotate_and_store(const at::Tensor& qkv, const Norm& q_norm, const Norm& k_norm,
                        const Batch& batch, const LayerCache& cache) override {
    const std::int64_t rows = batch.rows;
    const at::Tensor q = columns(qkv, 0, config_.num_heads);
    const at::Tensor k = columns(qkv, config_.q_size(), config_.num_kv_heads);
    const at::Tensor v = columns(qkv, config_.q_size() + config_.kv_size(), config_.num_kv_heads);
    if (q_norm.weight.defined()) norm(q, q_norm, q);
    if (k_norm.weight.defined()) norm(k, k_norm, k);

    at::Tensor cos = at::empty({rows, 1, config_.head_dim / 2}, at::kFloat);
    at::Tensor sin = at::empty_like(cos);
    at::Tensor page = at::empty({rows}, at::kLong);
    at::Tensor slot = at::empty({rows}, at::kLong);
    const std::size_t angle_bytes = config_.head_dim / 2 * sizeof(float);
    for (const BatchSequence& sequence : batch.sequences) {
      rope_.reserve(static_cast<std::uint64_t>(sequence.position + sequence.rows));
      for (std::int64_t i = 0; i < sequence.rows; ++i) {
        const std::int64_t row = sequence.first_row + i;
        const std::int64_t position = sequence.position + i;
        const kernels::RopeRow angles = rope_.row(static_cast<std::uint64_t>(position));
        std::memcpy(cos[row].data_ptr(), angles.cos, angle_bytes);
        std::memcpy(sin[row].data_ptr(), angles.sin, angle_bytes);
        page.data_ptr<std::int64_t>()[row] =
            sequence.pages[static_cast<std::size_t>(position / kPageTokens)];
        slot.data_ptr<std::int64_t>()[row] = position % kPageTokens;
      }
    }
    rotate(q, cos, sin);
    rotate(k, cos, sin);
    cache.keys.index_put_({page, slot}, k.to(kept_));
    cache.values.index_put_({page, slot}, v.to(kept_));
  }

  void attend(const at::Tensor& qkv, const Batch& batch, const LayerCache& cache,
              std::uint32_t window, const at::Tensor& out) override {
    const std::int64_t group = config_.num_heads / config_.num_kv_heads;
    const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
    const at::Tensor queries = columns(qkv, 0, config_.num_heads);
    for (const BatchSequence& sequence : batch.sequences) {
      const std::int64_t length = sequence.position + sequence.rows;
      const std::int64_t count = (length + kPageTokens - 1) / kPageTokens;
      const std::vector<std::int64_t> ids(sequence.pages.begin(), sequence.pages.begin() + count);
      const at::Tensor pages = at::tensor(ids, at::kLong);
      const at::Tensor q = queries.narrow(0, sequence.first_row, sequence.rows).transpose(0, 1);
      const at::Tensor k = by_head(cache.keys, pages, length, group);
      const at::Tensor v = by_head(cache.values, pages, length, group);
      const at::Tensor scores = at::matmul(q, k.transpose(1, 2)).mul(scale);  // [head, row, pos]
      const at::Tensor row = at::arange(sequence.position, length).unsqueeze(1);
      const at::Tensor column = at::arange(0, length).unsqueeze(0);
      at::Tensor unseen = column.gt(row);
      if (window != 0) unseen = unseen.logical_or(column.le(row.sub(std::int64_t{window})));
      const at::Tensor weights =
          scores.masked_fill(unseen, -std::numeric_limits<float>::infinity()).softmax(-1);
      out.narrow(0, sequence.first_row, sequence.rows)
          .copy_(at::matmul(weights, v).transpose(0, 1).reshape({sequence.rows, -1}));
    }
  }

  void activate(const at::Tensor& wide, Activation activation, bool gated) override {
    library::activate(wide, activation, gated);
  }

  void add(const at::Tensor& hidden, const at::Tensor& delta) override { hidden.add_(delta); }

  void add_rounded(const at::Tensor& hidden, const at::Tensor& delta) override {
    hidden.copy_(hidden.add(delta).to(residual_));
  }

 private:
  static void fill(std::span<const TensorView> parts, const at::Tensor& out) {
    std::int64_t at_row = 0;
    for (const TensorView& part : parts) {
      const std::vector<std::int64_t> shape(part.shape.begin(), part.shape.end());
      at::Tensor copy = at::empty(shape, scalar_type(part.dtype));  // aligned, unlike the file
      std::memcpy(copy.data_ptr(), part.bytes.data(), part.bytes.size());
      out.narrow(0, at_row, shape[0]).copy_(copy);
      at_row += shape[0];
    }
  }

  /// Columns of qkv as [rows, heads, head_dim].
  at::Tensor columns(const at::Tensor& qkv, std::int64_t first, std::int64_t heads) const {
    return qkv.narrow(1, first, heads * config_.head_dim)
        .unflatten(1, {heads, static_cast<std::int64_t>(config_.head_dim)});
  }

  static void rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    const std::int64_t half = x.size(2) / 2;
    const at::Tensor a = x.narrow(2, 0, half);
    const at::Tensor b = x.narrow(2, half, half);
    const at::Tensor rotated = at::cat({a * cos - b * sin, b * cos + a * sin}, 2);
    x.copy_(rotated);
  }

  /// The first `length` positions as f32 [heads, length, head_dim].
  at::Tensor by_head(const at::Tensor& cache, const at::Tensor& pages, std::int64_t length,
                     std::int64_t group) const {
    const at::Tensor rows = cache.index_select(0, pages).flatten(0, 1).narrow(0, 0, length);
    return rows.transpose(0, 1).to(at::kFloat).repeat_interleave(group, 0);
  }

  const ModelConfig config_;
  const at::ScalarType weights_, residual_, kept_;
  kernels::RopeTable rope_;
};

}  // namespace

std::unique_ptr<Ops> make_torch_ops(const ModelConfig& config, const OpsOptions& options) {
  return std::make_unique<TorchOps>(config, options);
}

}  // namespace farmesh::model
