// Ops on our kernels: one order of summation, whatever the batch, the threads, the machine.
#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/attention.hpp"
#include "kernels/packed_matrix.hpp"
#include "kernels/rope_table.hpp"
#include "kernels/thread_pool.hpp"
#include "model/rope.hpp"
#include "model/torch/kernel_choice.hpp"
#include "model/torch/ops.hpp"
#include "model/torch/packed_store.hpp"

namespace farmesh::model {
namespace {

using kernels::kLanes;

class ExactMatrix final : public Matrix {
 public:
  explicit ExactMatrix(kernels::PackedMatrix matrix) : packed(std::move(matrix)) {}
  std::uint64_t bytes() const override { return packed.bytes(); }

  kernels::PackedMatrix packed;
};

const kernels::PackedMatrix& packed(const Matrix& matrix) {
  return static_cast<const ExactMatrix&>(matrix).packed;
}

kernels::Act act_of(Activation activation) {
  switch (activation) {
    case Activation::silu: return kernels::Act::silu;
    case Activation::gelu: return kernels::Act::gelu;
    case Activation::gelu_tanh: return kernels::Act::gelu_tanh;
    case Activation::relu: break;
  }
  return kernels::Act::relu;
}

std::vector<kernels::MatrixRows> matrix_rows(std::span<const TensorView> parts) {
  std::vector<kernels::MatrixRows> rows;
  for (const TensorView& part : parts) {
    rows.push_back({part.dtype, part.bytes.data(), static_cast<std::int64_t>(part.shape[0])});
  }
  return rows;
}

kernels::RowsView rows_of(const at::Tensor& x) {
  return {x.data_ptr<float>(), x.stride(0), x.size(0)};
}

const float* bias_of(const at::Tensor& bias) {
  return bias.defined() ? bias.data_ptr<float>() : nullptr;
}

/// Owned memory as a byte tensor [pages, page_bytes].
at::Tensor page_tensor(std::uint32_t pages, std::int64_t page_bytes) {
  auto memory = std::make_shared<kernels::HugeBuffer>(static_cast<std::uint64_t>(pages) *
                                                      static_cast<std::uint64_t>(page_bytes));
  std::byte* data = memory->data();
  return at::from_blob(
      data, {static_cast<std::int64_t>(pages), page_bytes}, [memory](void*) {}, at::kByte);
}

class ExactOps final : public Ops {
 public:
  ExactOps(const ModelConfig& config, const OpsOptions& options, kernels::Isa isa)
      : config_(config),
        options_(options),
        table_(kernels::kernel_table(isa)),
        pool_(options.threads, options.pin_threads),
        store_(options.packed),
        rope_(config.head_dim / 2, rope_magnitude(config.rope),
              [config](std::uint64_t position, std::vector<double>& out) {
                rope_frequencies(config, position, out);
              }) {}

  std::shared_ptr<const Matrix> matrix(std::span<const TensorView> parts, MatrixRole role,
                                       const std::string& key) override {
    const auto cols = static_cast<std::int64_t>(parts[0].shape[1]);
    const std::vector<kernels::MatrixRows> rows = matrix_rows(parts);
    const kernels::WeightFormat format = format_of(options_.weights, role);
    std::int64_t outs = 0;
    for (const kernels::MatrixRows& part : rows) outs += part.rows;
    if (auto kept = store_.find(pool_, key, format, outs, cols)) {
      return std::make_shared<ExactMatrix>(*std::move(kept));
    }
    auto matrix = made(rows, format, cols);
    store_.keep(pool_, key, matrix->packed);
    return matrix;
  }

  std::optional<WeightError> error_of(const Matrix& matrix,
                                      std::span<const TensorView> parts) override {
    if (!kernels::quantised(packed(matrix).format())) return std::nullopt;
    const kernels::PackingError error =
        kernels::packing_error(pool_, packed(matrix), matrix_rows(parts));
    return WeightError{error.rms, error.worst};
  }

  at::Tensor vector(std::span<const TensorView> parts) override {
    std::int64_t size = 0;
    for (const TensorView& part : parts) size += static_cast<std::int64_t>(part.shape[0]);
    // Whole vectors are read from biases: the allocation is longer than the tensor.
    at::Tensor out = at::zeros({size + kLanes}, at::kFloat);
    float* to = out.data_ptr<float>();
    for (const TensorView& part : parts) {
      // A vector is one output of a matrix with as many inputs: the same conversion.
      const kernels::MatrixRows row{part.dtype, part.bytes.data(), 1};
      const auto count = static_cast<std::int64_t>(part.shape[0]);
      kernels::PackedMatrix::pack(pool_, table_, kernels::WeightFormat::f32, {&row, 1}, count)
          .unpack_row(0, to);
      to += count;
    }
    return out.narrow(0, 0, size);
  }

  LayerCache cache(std::uint32_t pages) override {
    const kernels::CacheView shape = cache_view({});
    return {page_tensor(pages, shape.key_page_bytes()),
            page_tensor(pages, shape.value_page_bytes())};
  }

  std::uint64_t page_bytes() const override {
    const kernels::CacheView shape = cache_view({});
    return static_cast<std::uint64_t>(shape.key_page_bytes() + shape.value_page_bytes());
  }

  at::Tensor activations(std::int64_t rows, std::int64_t columns) override {
    return at::empty({rows, kernels::stride_of(columns)}, at::kFloat).narrow(1, 0, columns);
  }

  void read_residual(std::span<const ByteView> parts, const at::Tensor& hidden) override {
    for_parts(parts, hidden, [&](ByteView bytes, const at::Tensor& rows) { read(bytes, rows); });
  }

  void write_residual(const at::Tensor& hidden, std::span<const MutableByteView> parts) override {
    for_parts(parts, hidden,
              [&](MutableByteView bytes, const at::Tensor& rows) { write(rows, bytes); });
  }

  void embed(const Matrix& embedding, std::span<const TokenId> ids,
             const at::Tensor& hidden) override {
    for_rows(hidden, [&](std::int64_t row, float* to) {
      packed(embedding).unpack_row(ids[static_cast<std::size_t>(row)], to);
    });
  }

  void norm(const at::Tensor& x, const Norm& norm, const at::Tensor& out) override {
    const kernels::RowsView to = rows_of(out);
    for_rows(x, [&](std::int64_t row, const float* from) {
      norm_row(norm, from, to.data + row * to.stride, x.size(1));
    });
  }

  void linear(const at::Tensor& x, const Matrix& weights, const at::Tensor& bias,
              const at::Tensor& out) override {
    kernels::multiply(pool_, table_, rows_of(x), packed(weights), bias_of(bias), rows_of(out));
  }

  void norm_linear(const at::Tensor& x, const Norm& norm, const Matrix& weights,
                   const at::Tensor& bias, const at::Tensor& room, const at::Tensor& out) override {
    if (!kernels::worth_fusing(pool_, table_, packed(weights), x.size(0))) {
      Ops::norm_linear(x, norm, weights, bias, room, out);
      return;
    }
    const auto normed = [&](const float* row, float* made) {
      norm_row(norm, row, made, x.size(1));
    };
    kernels::multiply(pool_, table_, rows_of(x), normed, packed(weights), bias_of(bias),
                      rows_of(out));
  }

  void rotate_and_store(const at::Tensor& qkv, const Norm& q_norm, const Norm& k_norm,
                        const Batch& batch, const LayerCache& cache) override {
    const kernels::CacheView view = cache_view(cache);
    for (const BatchSequence& sequence : batch.sequences) {
      rope_.reserve(static_cast<std::uint64_t>(sequence.position + sequence.rows));
      for_rows(qkv.narrow(0, sequence.first_row, sequence.rows), [&](std::int64_t row, float* q) {
        const std::int64_t position = sequence.position + row;
        const kernels::RopeRow angles = rope_.row(static_cast<std::uint64_t>(position));
        float* k = q + config_.q_size();
        float* v = k + config_.kv_size();
        for (float* head = q; head < v; head += config_.head_dim) {
          const Norm& norm = head < k ? q_norm : k_norm;
          if (norm.weight.defined()) norm_row(norm, head, head, config_.head_dim);
          table_.rotate(head, angles.cos, angles.sin, config_.head_dim);
        }
        kernels::store_position(table_, view,
                                sequence.pages[static_cast<std::size_t>(position / kPageTokens)],
                                position % kPageTokens, k, v);
      });
    }
  }

  void attend(const at::Tensor& qkv, const Batch& batch, const LayerCache& cache,
              std::uint32_t window, const at::Tensor& out) override {
    const kernels::RowsView q = rows_of(qkv);
    const kernels::RowsView to = rows_of(out);
    sequences_.clear();
    for (const BatchSequence& sequence : batch.sequences) {
      kernels::AttentionArgs args;
      args.q = q.data + sequence.first_row * q.stride;
      args.q_stride = q.stride;
      args.out = to.data + sequence.first_row * to.stride;
      args.out_stride = to.stride;
      args.pages = sequence.pages.data();
      args.position = sequence.position;
      args.rows = sequence.rows;
      args.window = window;
      args.heads = config_.num_heads;
      args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)));
      sequences_.push_back(args);
    }
    kernels::attend(pool_, table_, cache_view(cache), sequences_);
  }

  void activate(const at::Tensor& wide, Activation activation, bool gated) override {
    const kernels::RowFunction activated = activation_of(wide, activation, gated);
    for_rows(wide, [&](std::int64_t, float* row) { activated(row, row); });
  }

  void activate_linear(const at::Tensor& wide, Activation activation, bool gated,
                       const Matrix& weights, const at::Tensor& bias,
                       const at::Tensor& out) override {
    if (!kernels::worth_fusing(pool_, table_, packed(weights), wide.size(0))) {
      Ops::activate_linear(wide, activation, gated, weights, bias, out);
      return;
    }
    kernels::multiply(pool_, table_, rows_of(wide), activation_of(wide, activation, gated),
                      packed(weights), bias_of(bias), rows_of(out));
  }

  void add(const at::Tensor& hidden, const at::Tensor& delta) override {
    add_rows(table_.add, hidden, delta);
  }

  void add_rounded(const at::Tensor& hidden, const at::Tensor& delta) override {
    add_rows(options_.residual == DType::f32 ? table_.add : table_.add_round_bf16, hidden, delta);
  }

  std::unique_ptr<Pass> begin_pass() override {
    struct AwakePass final : Pass {
      explicit AwakePass(kernels::ThreadPool& pool) : awake(pool) {}
      kernels::ThreadPool::Awake awake;
    };
    return std::make_unique<AwakePass>(pool_);
  }

 private:
  /// body(part, its rows of `hidden`)
  template <class Part, class Body>
  void for_parts(std::span<const Part> parts, const at::Tensor& hidden, const Body& body) {
    const std::size_t row_bytes =
        bytes_of(options_.residual) * static_cast<std::size_t>(hidden.size(1));
    std::int64_t first = 0;
    for (const Part part : parts) {
      const auto rows = static_cast<std::int64_t>(part.size() / row_bytes);
      body(part, hidden.narrow(0, first, rows));
      first += rows;
    }
  }

  void read(ByteView bytes, const at::Tensor& hidden) {
    const auto row_bytes = static_cast<std::int64_t>(bytes_of(options_.residual)) * hidden.size(1);
    for_rows(hidden, [&](std::int64_t row, float* to) {
      const std::byte* from = bytes.data() + row * row_bytes;
      if (options_.residual == DType::f32) {
        std::memcpy(to, from, static_cast<std::size_t>(row_bytes));
      } else {
        table_.widen_bf16(reinterpret_cast<const std::uint16_t*>(from), to, hidden.size(1));
      }
    });
  }

  void write(const at::Tensor& hidden, MutableByteView bytes) {
    const auto row_bytes = static_cast<std::int64_t>(bytes_of(options_.residual)) * hidden.size(1);
    for_rows(hidden, [&](std::int64_t row, const float* from) {
      std::byte* to = bytes.data() + row * row_bytes;
      if (options_.residual == DType::f32) {
        std::memcpy(to, from, static_cast<std::size_t>(row_bytes));
      } else {
        table_.narrow_bf16(from, reinterpret_cast<std::uint16_t*>(to), hidden.size(1));
      }
    });
  }

  std::shared_ptr<ExactMatrix> made(std::span<const kernels::MatrixRows> rows,
                                    kernels::WeightFormat format, std::int64_t cols) {
    return std::make_shared<ExactMatrix>(
        kernels::PackedMatrix::pack(pool_, table_, format, rows, cols));
  }

  /// body(row, pointer to it), spread over threads when there is enough of it.
  template <class Body>
  void for_rows(const at::Tensor& x, const Body& body) {
    const kernels::RowsView rows = rows_of(x);
    const std::int64_t grain = std::max<std::int64_t>(1, 16384 / x.size(1));
    pool_.for_each(rows.rows, grain, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t row = begin; row < end; ++row) body(row, rows.data + row * rows.stride);
    });
  }

  void norm_row(const Norm& norm, const float* x, float* y, std::int64_t n) const {
    const auto eps = static_cast<float>(norm.eps);
    const float* weight = norm.weight.data_ptr<float>();
    if (norm.kind == NormKind::rms) {
      table_.rms_norm(x, weight, eps, y, n);
    } else {
      table_.layer_norm(x, weight, norm.bias.data_ptr<float>(), eps, y, n);
    }
  }

  /// Of a row of `wide` [gate | up] or [up]; in place allowed.
  kernels::RowFunction activation_of(const at::Tensor& wide, Activation activation,
                                     bool gated) const {
    const auto act = static_cast<int>(act_of(activation));
    const std::int64_t columns = gated ? wide.size(1) / 2 : wide.size(1);
    if (!gated) {
      return [activate = table_.activate[act], columns](const float* row, float* made) {
        activate(row, made, columns);
      };
    }
    return [activate = table_.activate_gated[act], columns](const float* row, float* made) {
      activate(row, row + columns, made, columns);
    };
  }

  template <class Add>
  void add_rows(Add add, const at::Tensor& hidden, const at::Tensor& delta) {
    const kernels::RowsView from = rows_of(delta);
    for_rows(hidden, [&](std::int64_t row, float* to) {
      add(to, from.data + row * from.stride, hidden.size(1));
    });
  }

  kernels::CacheView cache_view(const LayerCache& cache) const {
    kernels::CacheView view;
    view.format = options_.kv;
    view.kv_heads = config_.num_kv_heads;
    view.head_dim = config_.head_dim;
    if (cache.keys.defined()) {
      view.keys = reinterpret_cast<std::byte*>(cache.keys.data_ptr<std::uint8_t>());
      view.values = reinterpret_cast<std::byte*>(cache.values.data_ptr<std::uint8_t>());
    }
    return view;
  }

  const ModelConfig config_;
  const OpsOptions options_;
  const kernels::KernelTable& table_;
  kernels::ThreadPool pool_;
  const PackedStore store_;
  kernels::RopeTable rope_;
  std::vector<kernels::AttentionArgs> sequences_;
};

}  // namespace

Result<std::unique_ptr<Ops>> make_exact_ops(const ModelConfig& config, const OpsOptions& options) {
  static_assert(kPageTokens == kLanes, "a page of keys is one vector of positions");
  const Result<kernels::Isa> isa = chosen_isa();
  if (!isa) return isa.error();
  return std::unique_ptr<Ops>(std::make_unique<ExactOps>(config, options, *isa));
}

}  // namespace farmesh::model
