// A weight matrix on a device: as it is, or quantised there in groups of 32 as the kernels do it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "model/torch/library.hpp"
#include "model/torch/ops.hpp"

namespace farmesh::model {

/// int8 is multiplied in slices, each dequantised first: it saves memory and no time. int4 goes to
/// the library's own product where that takes it and gives what the weights say, else as int8.
enum class DeviceFormat : std::uint8_t { dense, int8, int4 };

class DeviceMatrix final : public Matrix {
 public:
  /// `compute`: the dtype of dense weights and of all products.
  DeviceMatrix(std::span<const TensorView> parts, DeviceFormat format, at::ScalarType compute,
               at::Device device);

  std::uint64_t bytes() const override;
  DeviceFormat format() const noexcept { return format_; }

  /// out = x W^T; x [rows, in], out [rows, out] in `compute`, both on the device.
  void multiply(const at::Tensor& x, const at::Tensor& out) const;
  /// The rows `ids`, int64, in `compute`. Not of int4 that the library holds.
  at::Tensor rows(const at::Tensor& ids) const;
  /// What quantising took from `parts`.
  WeightError error_of(std::span<const TensorView> parts) const;

 private:
  void quantise(std::span<const TensorView> parts);
  void pack_by_library();
  at::Tensor dequantised(const at::Tensor& steps, const at::Tensor& scales) const;
  at::Tensor slice(std::int64_t first, std::int64_t count) const;

  const DeviceFormat format_;
  const at::ScalarType compute_;
  const at::Device device_;
  std::int64_t outs_ = 0, ins_ = 0;
  at::Tensor weights_;  // dense [out, in]; int8 [out, groups, 32]; int4 u8 [out, groups, 16]
  at::Tensor scales_;   // bf16 [out, groups]
  std::optional<library::Int4Weights> by_library_;  // then weights_ is undefined
};

/// `part` as f32 [rows, columns], or [columns] for a vector, on `device`.
at::Tensor uploaded(const TensorView& part, at::Device device);

}  // namespace farmesh::model
