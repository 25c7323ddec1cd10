#include "model/torch/device_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace farmesh::model {
namespace {

constexpr std::int64_t kGroup = 32;
// Weights that are widened at once: bounds scratch memory, and by then a product's start is free.
constexpr std::int64_t kSliceWeights = std::int64_t{1} << 24;

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::bf16: return at::kBFloat16;
    case DType::f16: return at::kHalf;
    default: return at::kFloat;
  }
}

std::int64_t rows_of(const TensorView& part) { return static_cast<std::int64_t>(part.shape[0]); }

/// `count` rows from `first` of a part, in the file's dtype, on the device.
at::Tensor upload(const TensorView& part, std::int64_t first, std::int64_t count,
                  at::Device device) {
  std::vector<std::int64_t> shape(part.shape.begin(), part.shape.end());
  const std::size_t row_bytes = part.bytes.size() / std::max<std::size_t>(part.shape[0], 1);
  shape[0] = count;
  at::Tensor copy = at::empty(shape, scalar_type(part.dtype));  // aligned, unlike the file
  std::memcpy(copy.data_ptr(), part.bytes.data() + static_cast<std::size_t>(first) * row_bytes,
              static_cast<std::size_t>(count) * row_bytes);
  return copy.to(device);
}

/// body(first row of the stack, rows in the file's dtype), slice by slice.
template <class Body>
void for_slices(std::span<const TensorView> parts, at::Device device, const Body& body) {
  std::int64_t above = 0;
  for (const TensorView& part : parts) {
    const auto columns = static_cast<std::int64_t>(part.shape[1]);
    const std::int64_t most = std::max<std::int64_t>(1, kSliceWeights / columns);
    for (std::int64_t first = 0; first < rows_of(part); first += most) {
      const std::int64_t count = std::min(most, rows_of(part) - first);
      body(above + first, upload(part, first, count, device));
    }
    above += rows_of(part);
  }
}

at::Tensor nearest_int4(const at::Tensor& steps) { return steps.clamp(-8.0, 7.0).round(); }

/// Where a scale is 0 the group's weights are, and their steps are told as 0.
at::Tensor inverse_of(const at::Tensor& scale) {
  return at::where(scale.eq(0.0), at::zeros_like(scale), scale.reciprocal());
}

/// w [rows, groups, 32]: the scale with which the steps nearest to w lose least, of sixteen places
/// for the largest weight among the steps (src/kernels/bodies/quantise.hpp has the same search).
at::Tensor best_int4_scale(const at::Tensor& w) {
  constexpr int kTries = 16;
  constexpr double kFirst = 6.6, kApart = 0.2;
  const at::Tensor top = w.gather(2, std::get<1>(w.abs().max(2, true)));
  const at::Tensor unit = inverse_of(top);
  at::Tensor best = at::zeros_like(top), scale = at::zeros_like(top);
  for (int i = 0; i < kTries; ++i) {
    const at::Tensor n = nearest_int4(w.mul(unit.mul(-(kFirst + kApart * i))));
    const at::Tensor nw = n.mul(w).sum(2, true);
    const at::Tensor found = nw.div(n.square().sum(2, true));
    const at::Tensor gain = nw.mul(found);
    const at::Tensor better = gain.gt(best);  // never of a group of zeros, whose gain is NaN
    scale = at::where(better, found, scale);
    best = at::where(better, gain, best);
  }
  return scale;
}

}  // namespace

at::Tensor uploaded(const TensorView& part, at::Device device) {
  return upload(part, 0, rows_of(part), device).to(at::kFloat);
}

DeviceMatrix::DeviceMatrix(std::span<const TensorView> parts, DeviceFormat format,
                           at::ScalarType compute, at::Device device)
    : format_(format),
      compute_(compute),
      device_(device),
      ins_(static_cast<std::int64_t>(parts[0].shape[1])) {
  for (const TensorView& part : parts) outs_ += rows_of(part);
  if (format_ != DeviceFormat::dense) {
    quantise(parts);
    if (format_ == DeviceFormat::int4) pack_by_library();
    return;
  }
  weights_ = at::empty({outs_, ins_}, at::TensorOptions(compute_).device(device_));
  for_slices(parts, device_, [&](std::int64_t first, const at::Tensor& rows) {
    weights_.narrow(0, first, rows.size(0)).copy_(rows);
  });
}

void DeviceMatrix::quantise(std::span<const TensorView> parts) {
  const bool wide = format_ == DeviceFormat::int8;
  const std::int64_t groups = (ins_ + kGroup - 1) / kGroup;
  const auto on_device = at::TensorOptions().device(device_);
  weights_ = at::empty({outs_, groups, wide ? kGroup : kGroup / 2},
                       on_device.dtype(wide ? at::kChar : at::kByte));
  scales_ = at::empty({outs_, groups}, on_device.dtype(at::kBFloat16));
  for_slices(parts, device_, [&](std::int64_t first, const at::Tensor& rows) {
    const std::int64_t count = rows.size(0);
    at::Tensor w = at::zeros({count, groups * kGroup}, on_device.dtype(at::kFloat));
    w.narrow(1, 0, ins_).copy_(rows);
    w = w.view({count, groups, kGroup});
    const at::Tensor exact = wide ? w.abs().amax(2, true).div(127.0) : best_int4_scale(w);
    const at::Tensor scale = exact.to(at::kBFloat16);
    const at::Tensor steps = w.mul(inverse_of(scale.to(at::kFloat)));
    scales_.narrow(0, first, count).copy_(scale.squeeze(2));
    const at::Tensor kept = weights_.narrow(0, first, count);
    if (wide) {
      kept.copy_(steps.round().clamp(-127.0, 127.0));
    } else {
      const at::Tensor n = nearest_int4(steps).add(8.0);
      kept.copy_(n.narrow(2, 0, kGroup / 2).add(n.narrow(2, kGroup / 2, kGroup / 2), 16.0));
    }
  });
}

/// What the library makes of the weights replaces them if it multiplies as they do.
void DeviceMatrix::pack_by_library() {
  if (compute_ != at::kBFloat16) return;
  try {
    const at::Tensor steps =
        at::cat({weights_.bitwise_and(15), weights_.div(16, "floor")}, 2).flatten(1);
    library::Int4Weights packed = library::pack_int4(steps.to(at::kByte), scales_, kGroup);
    if (!packed.packed.defined()) return;
    const at::Tensor x = at::arange(2 * ins_, at::TensorOptions(at::kFloat).device(device_))
                             .mul(0.7)
                             .sin()
                             .view({2, ins_})
                             .to(compute_);
    const at::Tensor expected = at::empty({2, outs_}, x.options());
    multiply(x, expected);
    const at::Tensor got = library::multiply_int4(x, packed, kGroup);
    const at::Tensor wanted = expected.to(at::kFloat);
    const double size = wanted.norm().item<double>();
    const double apart = got.to(at::kFloat).sub(wanted).norm().item<double>();
    if (!(apart <= 0.02 * size)) return;
    by_library_ = std::move(packed);
    weights_.reset();
  } catch (const c10::Error&) {
    by_library_.reset();  // not for this device or shape
  }
}

std::uint64_t DeviceMatrix::bytes() const {
  std::uint64_t bytes = 0;
  const auto count = [&](const at::Tensor& tensor) {
    if (tensor.defined()) bytes += tensor.nbytes();
  };
  count(weights_);
  if (by_library_) {
    count(by_library_->packed);
    count(by_library_->scales_and_zeros);
  } else {
    count(scales_);
  }
  return bytes;
}

at::Tensor DeviceMatrix::dequantised(const at::Tensor& steps, const at::Tensor& scales) const {
  at::Tensor wide = steps;
  if (format_ == DeviceFormat::int4) {
    wide = at::cat({steps.bitwise_and(15), steps.div(16, "floor")}, 2).to(compute_).sub(8.0);
  }
  return wide.to(compute_).mul(scales.unsqueeze(2)).to(compute_).flatten(1).narrow(1, 0, ins_);
}

at::Tensor DeviceMatrix::slice(std::int64_t first, std::int64_t count) const {
  const at::Tensor rows = weights_.narrow(0, first, count);
  if (format_ == DeviceFormat::dense) return rows;
  return dequantised(rows, scales_.narrow(0, first, count));
}

at::Tensor DeviceMatrix::rows(const at::Tensor& ids) const {
  const at::Tensor rows = weights_.index_select(0, ids);
  if (format_ == DeviceFormat::dense) return rows;
  return dequantised(rows, scales_.index_select(0, ids));
}

void DeviceMatrix::multiply(const at::Tensor& x, const at::Tensor& out) const {
  if (by_library_) {
    out.copy_(library::multiply_int4(x.contiguous(), *by_library_, kGroup));
    return;
  }
  const std::int64_t most =
      format_ == DeviceFormat::dense ? outs_ : std::max<std::int64_t>(1, kSliceWeights / ins_);
  for (std::int64_t first = 0; first < outs_; first += most) {
    const std::int64_t count = std::min(most, outs_ - first);
    at::Tensor to = out.narrow(1, first, count);
    at::mm_out(to, x, slice(first, count).t());
  }
}

WeightError DeviceMatrix::error_of(std::span<const TensorView> parts) const {
  double squares = 0.0, lost = 0.0, worst = 0.0;
  at::Tensor whole;  // what the library packed shows only in products
  if (by_library_) {
    const auto like = at::TensorOptions(compute_).device(device_);
    whole = at::empty({ins_, outs_}, like);
    multiply(at::eye(ins_, like), whole);
  }
  for_slices(parts, device_, [&](std::int64_t first, const at::Tensor& rows) {
    const std::int64_t count = rows.size(0);
    const at::Tensor kept = by_library_ ? whole.narrow(1, first, count).t() : slice(first, count);
    const at::Tensor exact = rows.to(at::kFloat);
    const at::Tensor apart = kept.to(at::kFloat).sub(exact);
    squares += exact.square().sum(at::kDouble).item<double>();
    lost += apart.square().sum(at::kDouble).item<double>();
    worst = std::max(worst, apart.abs().max().item<double>());
  });
  if (squares == 0.0) return {};
  const double size = std::sqrt(squares / (static_cast<double>(outs_) * static_cast<double>(ins_)));
  return {std::sqrt(lost / squares), worst / size};
}

}  // namespace farmesh::model
