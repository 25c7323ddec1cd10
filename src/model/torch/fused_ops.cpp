// Ops on libtorch's fused functions, on any device: what a GPU computes with (Numerics::fused).
//
// Whatever differs from one step to the next goes into buffers that stay where they are, in one
// copy before the first layer; the layers' work then depends on nothing else but shapes. So the
// layers of a decode step are recorded when their shape comes a second time, and replayed from then
// on: a CUDA graph on a GPU. Decode rows of all sessions attend together, over positions gathered
// from their pages; a position beyond a session's end is its first one, unseen.
#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "kernels/rope_table.hpp"
#include "model/rope.hpp"
#include "model/torch/device_matrix.hpp"
#include "model/torch/library.hpp"
#include "model/torch/ops.hpp"

namespace farmesh::model {
namespace {

constexpr std::size_t kMostRecordings = 128;  // of shapes of steps; then they are made anew

at::ScalarType compute_type(Precision precision) {
  switch (precision) {
    case Precision::f32: return at::kFloat;
    case Precision::f16: return at::kHalf;
    default: return at::kBFloat16;
  }
}

DeviceFormat format_of(Precision precision, MatrixRole role) {
  switch (precision) {
    case Precision::int8: return DeviceFormat::int8;
    case Precision::int4:
      return role == MatrixRole::layer ? DeviceFormat::int4 : DeviceFormat::int8;
    default: return DeviceFormat::dense;
  }
}

const DeviceMatrix& on_device(const Matrix& matrix) {
  return static_cast<const DeviceMatrix&>(matrix);
}

/// Host memory and its copy on the device, grown as needed. The copy stays where it is until then.
class StagedBuffer {
 public:
  StagedBuffer(ComputeDevice& device, at::ScalarType type) : device_(device), type_(type) {}

  /// Whether there is room for `count` elements without a move; makes it.
  bool reserve(std::int64_t count) {
    if (host_.defined() && count <= host_.numel()) return true;
    const auto capacity = static_cast<std::int64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 1024))));
    host_ =
        device_.staging(capacity * static_cast<std::int64_t>(at::elementSize(type_))).view(type_);
    on_device_ = at::empty({capacity}, at::TensorOptions(type_).device(device_.where()));
    return false;
  }

  template <class Element>
  Element* host() {
    return host_.data_ptr<Element>();
  }
  void* bytes() { return host_.data_ptr(); }
  /// The first elements on the device, after upload() as they were in host().
  at::Tensor view(std::int64_t first, at::IntArrayRef shape) const {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return on_device_.narrow(0, first, count).view(shape);
  }
  void upload(std::int64_t count) {
    on_device_.narrow(0, 0, count).copy_(host_.narrow(0, 0, count), /*non_blocking=*/true);
  }
  at::Tensor host_view(at::IntArrayRef shape) const {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return host_.narrow(0, 0, count).view(shape);
  }

 private:
  ComputeDevice& device_;
  at::ScalarType type_;
  at::Tensor host_, on_device_;
};

/// Several rows of one session: a part of its prompt.
struct Stretch {
  std::int64_t first_row, rows, position;
  at::Tensor pages;  // int64, those with the positions up to its last row
};

/// A batch as the layers see it: views of the buffers, and what a first layer made of them.
struct Plan {
  std::int64_t rows = 0;
  at::Tensor slots;     // int64 [rows]: page * kPageTokens + place in it
  at::Tensor cos, sin;  // f32 [rows, 1, head_dim / 2]
  std::vector<Stretch> stretches;

  std::int64_t singles = 0;  // sessions with one row
  std::int64_t single_pages = 0;
  at::Tensor single_rows;  // int64 [singles]; undefined where they are all there is
  at::Tensor tables;       // int64 [singles, single_pages]
  at::Tensor lengths;      // int64 [singles, 1]: positions that each sees

  at::Tensor places;  // int64 [singles * positions]: slots of what the singles see
  std::map<std::uint32_t, at::Tensor> seen;  // by window: bool [singles, 1, 1, positions]
};

/// Steps of about equal length share a shape: pages in steps of a quarter of their number.
std::int64_t rounded_up(std::int64_t pages) {
  const auto step = static_cast<std::int64_t>(
      std::max<std::uint64_t>(4, std::bit_floor(static_cast<std::uint64_t>(pages)) / 4));
  return (pages + step - 1) / step * step;
}

std::int64_t pages_of(const BatchSequence& sequence) {
  return (sequence.position + sequence.rows + kPageTokens - 1) / kPageTokens;
}

class FusedOps final : public Ops {
 public:
  FusedOps(const ModelConfig& config, const OpsOptions& options,
           std::unique_ptr<ComputeDevice> device)
      : config_(config),
        options_(options),
        device_(std::move(device)),
        compute_(compute_type(options.weights)),
        residual_(options.residual == DType::f32 ? at::kFloat : at::kBFloat16),
        kept_(options.kv == KvFormat::f32 ? at::kFloat : at::kBFloat16),
        rope_(config.head_dim / 2, rope_magnitude(config.rope),
              [config](std::uint64_t position, std::vector<double>& out) {
                rope_frequencies(config, position, out);
              }),
        indices_(*device_, at::kLong),
        angles_(*device_, at::kFloat),
        arriving_(*device_, residual_),
        leaving_(*device_, residual_),
        told_(*device_, at::kFloat) {
    at::set_num_threads(options.threads);
  }

  std::shared_ptr<const Matrix> matrix(std::span<const TensorView> parts, MatrixRole role,
                                       const std::string&) override {
    const auto scope = device_->enter();
    auto matrix = std::make_shared<DeviceMatrix>(parts, format_of(options_.weights, role), compute_,
                                                 device_->where());
    device_->finish();
    return matrix;
  }

  std::optional<WeightError> error_of(const Matrix& matrix,
                                      std::span<const TensorView> parts) override {
    if (on_device(matrix).format() == DeviceFormat::dense) return std::nullopt;
    const auto scope = device_->enter();
    return on_device(matrix).error_of(parts);
  }

  at::Tensor vector(std::span<const TensorView> parts) override {
    const auto scope = device_->enter();
    std::vector<at::Tensor> vectors;
    for (const TensorView& part : parts) vectors.push_back(uploaded(part, device_->where()));
    at::Tensor joined = at::cat(vectors);
    device_->finish();
    return joined;
  }

  // Pages: [page, position, kv head, head_dim].
  LayerCache cache(std::uint32_t pages) override {
    const auto scope = device_->enter();
    const std::vector<std::int64_t> shape{pages, kPageTokens, config_.num_kv_heads,
                                          config_.head_dim};
    return {at::empty(shape, here(kept_)), at::empty(shape, here(kept_))};
  }

  std::uint64_t page_bytes() const override {
    return 2ULL * kPageTokens * config_.kv_size() * at::elementSize(kept_);
  }

  at::Tensor activations(std::int64_t rows, std::int64_t columns) override {
    return fresh(rows, columns, compute_);
  }

  /// In f32 between the two halves of a block, whatever the rest is in: nothing is lost there.
  at::Tensor residual_stream(std::int64_t rows, std::int64_t columns) override {
    return fresh(rows, columns, at::kFloat);
  }

  void read_residual(std::span<const ByteView> parts, const at::Tensor& hidden) override {
    arriving_.reserve(hidden.numel());
    auto* to = static_cast<std::byte*>(arriving_.bytes());
    for (const ByteView part : parts) {
      std::memcpy(to, part.data(), part.size());
      to += part.size();
    }
    arriving_.upload(hidden.numel());
    hidden.copy_(arriving_.view(0, hidden.sizes()));
  }

  void write_residual(const at::Tensor& hidden, std::span<const MutableByteView> parts) override {
    leaving_.reserve(hidden.numel());
    leaving_.host_view(hidden.sizes()).copy_(hidden.to(residual_), /*non_blocking=*/true);
    device_->finish();
    const auto* from = static_cast<const std::byte*>(leaving_.bytes());
    for (const MutableByteView part : parts) {
      std::memcpy(part.data(), from, part.size());
      from += part.size();
    }
  }

  void embed(const Matrix& embedding, std::span<const TokenId> ids,
             const at::Tensor& hidden) override {
    const auto count = static_cast<std::int64_t>(ids.size());
    make_room(count, 0);
    std::copy(ids.begin(), ids.end(), indices_.host<std::int64_t>());
    indices_.upload(count);
    hidden.copy_(on_device(embedding).rows(indices_.view(0, {count})));
  }

  void run(const Batch& batch, std::uint64_t layers,
           const std::function<void(const Batch&)>& body) override {
    make_plan(batch);
    if (!records_ || plan_.singles != plan_.rows) return body(batch);
    if (recordings_.size() >= kMostRecordings) recordings_.clear();
    Known& known = recordings_[{layers, plan_.singles, plan_.single_pages}];
    if (known.recording == nullptr && known.times++ == 0) return body(batch);
    if (known.recording == nullptr) {
      try {
        known.recording = device_->record([body, rows = plan_.rows] { body({{}, rows}); });
      } catch (const c10::Error&) {
        records_ = false;  // nothing was computed: this step and all others go without
        make_plan(batch);
        return body(batch);
      }
      forget_made();
    }
    known.recording->replay();
  }

  void norm(const at::Tensor& x, const Norm& norm, const at::Tensor& out) override {
    const at::Tensor wide = x.to(at::kFloat);
    if (norm.kind == NormKind::layer) {
      out.copy_(at::layer_norm(wide, {x.size(-1)}, norm.weight, norm.bias, norm.eps));
    } else {
      out.copy_(library::rms_norm(wide, norm.weight, norm.eps));
    }
  }

  void linear(const at::Tensor& x, const Matrix& weights, const at::Tensor& bias,
              const at::Tensor& out) override {
    on_device(weights).multiply(x, out);
    if (bias.defined()) out.add_(bias);
  }

  void logits(const at::Tensor& x, const Matrix& weights, std::span<float> out) override {
    const auto vocab = static_cast<std::int64_t>(out.size()) / x.size(0);
    const at::Tensor product = at::empty({x.size(0), vocab}, here(compute_));
    on_device(weights).multiply(x, product);
    told_.reserve(product.numel());
    told_.host_view(product.sizes()).copy_(product.to(at::kFloat), /*non_blocking=*/true);
    device_->finish();
    std::memcpy(out.data(), told_.bytes(), out.size_bytes());
  }

  void rotate_and_store(const at::Tensor& qkv, const Norm& q_norm, const Norm& k_norm, const Batch&,
                        const LayerCache& cache) override {
    const at::Tensor q = columns(qkv, 0, config_.num_heads);
    const at::Tensor k = columns(qkv, config_.q_size(), config_.num_kv_heads);
    const at::Tensor v = columns(qkv, config_.q_size() + config_.kv_size(), config_.num_kv_heads);
    if (q_norm.weight.defined()) norm(q, q_norm, q);
    if (k_norm.weight.defined()) norm(k, k_norm, k);
    rotate(q);
    rotate(k);
    cache.keys.flatten(0, 1).index_copy_(0, plan_.slots, k.to(kept_));
    cache.values.flatten(0, 1).index_copy_(0, plan_.slots, v.to(kept_));
  }

  void attend(const at::Tensor& qkv, const Batch&, const LayerCache& cache, std::uint32_t window,
              const at::Tensor& out) override {
    const at::Tensor q = columns(qkv, 0, config_.num_heads);
    const at::Tensor to = columns(out, 0, config_.num_heads);
    if (plan_.singles > 0) attend_singles(q, cache, window, to);
    for (const Stretch& stretch : plan_.stretches) attend_stretch(stretch, q, cache, window, to);
  }

  void activate(const at::Tensor& wide, Activation activation, bool gated) override {
    library::activate(wide, activation, gated);
  }

  void add(const at::Tensor& hidden, const at::Tensor& delta) override { hidden.add_(delta); }

  void add_rounded(const at::Tensor& hidden, const at::Tensor& delta) override {
    hidden.copy_(hidden.add(delta).to(residual_));
  }

  std::unique_ptr<Pass> begin_pass() override {
    struct OnDevice final : Pass {
      explicit OnDevice(std::unique_ptr<ComputeDevice::Scope> entered)
          : scope(std::move(entered)) {}
      std::unique_ptr<ComputeDevice::Scope> scope;
    };
    return std::make_unique<OnDevice>(device_->enter());
  }

 private:
  struct Known {
    int times = 0;  // that the shape came
    std::unique_ptr<ComputeDevice::Recording> recording;
  };
  // Layers, sessions, pages of each.
  using StepShape = std::tuple<std::uint64_t, std::int64_t, std::int64_t>;

  at::TensorOptions here(at::ScalarType type) const {
    return at::TensorOptions(type).device(device_->where());
  }

  /// Memory of passes to come, for which earlier recordings are worth nothing.
  at::Tensor fresh(std::int64_t rows, std::int64_t columns, at::ScalarType type) {
    recordings_.clear();
    const auto scope = device_->enter();
    return at::empty({rows, columns}, here(type));
  }

  void make_room(std::int64_t indices, std::int64_t angles) {
    const bool stayed = indices_.reserve(indices);
    if (!angles_.reserve(angles) || !stayed) recordings_.clear();
  }

  /// Columns of qkv as [rows, heads, head_dim].
  at::Tensor columns(const at::Tensor& qkv, std::int64_t first, std::int64_t heads) const {
    return qkv.narrow(1, first, heads * config_.head_dim)
        .unflatten(1, {heads, static_cast<std::int64_t>(config_.head_dim)});
  }

  // What depends on lengths and pages alone is made by the first layer that needs it, inside a
  // recording too.
  void forget_made() {
    plan_.places.reset();
    plan_.seen.clear();
  }

  void make_plan(const Batch& batch) {
    plan_ = {};
    plan_.rows = batch.rows;
    std::int64_t stretch_pages = 0;
    for (const BatchSequence& sequence : batch.sequences) {
      if (sequence.rows == 1) {
        ++plan_.singles;
        plan_.single_pages = std::max(plan_.single_pages, pages_of(sequence));
      } else {
        stretch_pages += pages_of(sequence);
      }
    }
    if (plan_.singles > 0) plan_.single_pages = rounded_up(plan_.single_pages);
    const std::int64_t half = config_.head_dim / 2;
    const std::int64_t lengths = plan_.rows;  // where each part of the buffer begins
    const std::int64_t single_rows = lengths + plan_.singles;
    const std::int64_t tables = single_rows + plan_.singles;
    const std::int64_t pages = tables + plan_.singles * plan_.single_pages;
    make_room(pages + stretch_pages, 2 * plan_.rows * half);

    std::int64_t single = 0, page = pages;
    for (const BatchSequence& sequence : batch.sequences) {
      place_rows(sequence);
      std::int64_t* const index = indices_.host<std::int64_t>();
      const auto used = static_cast<std::ptrdiff_t>(pages_of(sequence));
      const bool alone = sequence.rows == 1;
      std::int64_t* const table = index + (alone ? tables + single * plan_.single_pages : page);
      std::copy(sequence.pages.begin(), sequence.pages.begin() + used, table);
      if (alone) {
        std::fill(table + used, table + plan_.single_pages, std::int64_t{0});
        index[lengths + single] = sequence.position + 1;
        index[single_rows + single] = sequence.first_row;
        ++single;
      } else {
        plan_.stretches.push_back(
            {sequence.first_row, sequence.rows, sequence.position, indices_.view(page, {used})});
        page += used;
      }
    }
    indices_.upload(pages + stretch_pages);
    angles_.upload(2 * plan_.rows * half);
    plan_.slots = indices_.view(0, {plan_.rows});
    plan_.lengths = indices_.view(lengths, {plan_.singles, 1});
    if (plan_.singles != plan_.rows)
      plan_.single_rows = indices_.view(single_rows, {plan_.singles});
    plan_.tables = indices_.view(tables, {plan_.singles, plan_.single_pages});
    plan_.cos = angles_.view(0, {plan_.rows, 1, half});
    plan_.sin = angles_.view(plan_.rows * half, {plan_.rows, 1, half});
  }

  /// Slots and angles of a sequence's rows, into the buffers.
  void place_rows(const BatchSequence& sequence) {
    const std::int64_t half = config_.head_dim / 2;
    const std::size_t angle_bytes = static_cast<std::size_t>(half) * sizeof(float);
    rope_.reserve(static_cast<std::uint64_t>(sequence.position + sequence.rows));
    for (std::int64_t i = 0; i < sequence.rows; ++i) {
      const std::int64_t row = sequence.first_row + i;
      const std::int64_t position = sequence.position + i;
      const kernels::RopeRow angles = rope_.row(static_cast<std::uint64_t>(position));
      std::memcpy(angles_.host<float>() + row * half, angles.cos, angle_bytes);
      std::memcpy(angles_.host<float>() + (plan_.rows + row) * half, angles.sin, angle_bytes);
      const std::int64_t page = sequence.pages[static_cast<std::size_t>(position / kPageTokens)];
      indices_.host<std::int64_t>()[row] = page * kPageTokens + position % kPageTokens;
    }
  }

  void rotate(const at::Tensor& x) const {
    const std::int64_t half = x.size(2) / 2;
    const at::Tensor a = x.narrow(2, 0, half).to(at::kFloat);
    const at::Tensor b = x.narrow(2, half, half).to(at::kFloat);
    x.copy_(at::cat({a * plan_.cos - b * plan_.sin, b * plan_.cos + a * plan_.sin}, 2));
  }

  /// Slots of a page's positions: [..., pages] → [..., pages * kPageTokens].
  at::Tensor slots_of(const at::Tensor& pages) const {
    return pages.mul(std::int64_t{kPageTokens})
        .unsqueeze(-1)
        .add(at::arange(std::int64_t{kPageTokens}, here(at::kLong)))
        .flatten(-2);
  }

  /// Slots of keys or values as [batch, kv heads, positions, head_dim].
  at::Tensor gathered(const at::Tensor& cache, const at::Tensor& slots, std::int64_t batch) const {
    return cache.flatten(0, 1)
        .index_select(0, slots)
        .unflatten(0, {batch, -1})
        .transpose(1, 2)
        .to(compute_);
  }

  /// One row of each session: the queries that share a kv head are its rows.
  void attend_singles(const at::Tensor& queries, const LayerCache& cache, std::uint32_t window,
                      const at::Tensor& out) {
    const std::int64_t positions = plan_.single_pages * kPageTokens;
    const at::Tensor column = at::arange(positions, here(at::kLong));
    if (!plan_.places.defined()) {
      const at::Tensor slots = slots_of(plan_.tables);
      plan_.places = at::where(column.lt(plan_.lengths), slots, slots.narrow(1, 0, 1)).flatten();
    }
    at::Tensor& seen = plan_.seen[window];
    if (!seen.defined()) {
      seen = column.lt(plan_.lengths);
      if (window != 0) {
        seen = seen.logical_and(column.ge(plan_.lengths.sub(std::int64_t{window})));
      }
      seen = seen.unsqueeze(1).unsqueeze(1);
    }
    const bool only = !plan_.single_rows.defined();
    const at::Tensor q = (only ? queries : queries.index_select(0, plan_.single_rows))
                             .unflatten(1, {config_.num_kv_heads, -1});
    const at::Tensor attended =
        library::attention(q, gathered(cache.keys, plan_.places, plan_.singles),
                           gathered(cache.values, plan_.places, plan_.singles),
                           seen.expand({-1, 1, q.size(2), -1}))
            .flatten(1, 2);
    if (only) {
      out.copy_(attended);
    } else {
      out.index_copy_(0, plan_.single_rows, attended);
    }
  }

  void attend_stretch(const Stretch& stretch, const at::Tensor& queries, const LayerCache& cache,
                      std::uint32_t window, const at::Tensor& out) const {
    const std::int64_t length = stretch.position + stretch.rows;
    const at::Tensor slots = slots_of(stretch.pages).narrow(0, 0, length);
    const at::Tensor k = gathered(cache.keys, slots, 1);
    const at::Tensor v = gathered(cache.values, slots, 1);
    const at::Tensor q = queries.narrow(0, stretch.first_row, stretch.rows).transpose(0, 1);
    const at::Tensor to = out.narrow(0, stretch.first_row, stretch.rows);
    if (stretch.position == 0 && (window == 0 || window >= length)) {
      const at::Tensor attended = library::attention(q.unsqueeze(0), k, v, {});
      to.copy_(attended.squeeze(0).transpose(0, 1));
      return;
    }
    const at::Tensor row = at::arange(stretch.position, length, here(at::kLong)).unsqueeze(1);
    const at::Tensor column = at::arange(length, here(at::kLong)).unsqueeze(0);
    at::Tensor seen = column.le(row);
    if (window != 0) seen = seen.logical_and(column.gt(row.sub(std::int64_t{window})));
    // The rows of a group's queries one after the other: no key is read twice for them.
    const std::int64_t group = config_.num_heads / config_.num_kv_heads;
    const at::Tensor folded = q.reshape({1, config_.num_kv_heads, group * stretch.rows, -1});
    const at::Tensor attended = library::attention(folded, k, v, seen.repeat({group, 1}));
    to.copy_(attended.reshape({config_.num_heads, stretch.rows, -1}).transpose(0, 1));
  }

  const ModelConfig config_;
  const OpsOptions options_;
  const std::unique_ptr<ComputeDevice> device_;
  const at::ScalarType compute_, residual_, kept_;
  kernels::RopeTable rope_;
  StagedBuffer indices_, angles_;           // of a step
  StagedBuffer arriving_, leaving_, told_;  // residual rows in and out, logits
  Plan plan_;
  bool records_ = true;
  std::map<StepShape, Known> recordings_;
};

}  // namespace

std::unique_ptr<Ops> make_fused_ops(const ModelConfig& config, const OpsOptions& options,
                                    std::unique_ptr<ComputeDevice> device) {
  return std::make_unique<FusedOps>(config, options, std::move(device));
}

}  // namespace farmesh::model
