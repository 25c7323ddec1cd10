// Where an engine gets its tensors from: named, shaped, read-only bytes, usually mapped files.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"

namespace farmesh::model {

struct TensorView {
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
  ByteView bytes;  // row-major; no alignment promised; valid while the source lives
};

/// Implementations are immutable after construction and may be read from several threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// Fails with config_mismatch when there is no such tensor.
  virtual Result<TensorView> find(std::string_view name) const = 0;
  /// The caller has copied what it needs: mapped pages of this tensor may leave memory.
  virtual void release(std::string_view name) const = 0;
};

}  // namespace farmesh::model
