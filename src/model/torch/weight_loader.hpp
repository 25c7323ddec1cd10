// Hands tensors from a WeightSource to an Ops, one after the other, checking each against what
// the config promises, so that a file's pages leave memory as soon as its tensor is packed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/torch/ops.hpp"

namespace farmesh::model {

/// Carries an Error out of a constructor; never leaves this library.
struct LoadFailure {
  Error error;
};

/// Every function throws LoadFailure (config_mismatch, model_unsupported) or std::bad_alloc. The
/// constructor's arguments outlive the loader.
class WeightLoader {
 public:
  WeightLoader(const ModelConfig& config, const WeightSource& source, Ops& ops,
               std::vector<TensorSpec> specs, const EngineOptions& options);

  /// The matrices NAME.weight, stacked.
  std::shared_ptr<const Matrix> matrix(const std::vector<std::string>& names,
                                       MatrixRole role = MatrixRole::layer);
  /// The vectors NAME.bias, concatenated.
  at::Tensor bias(const std::vector<std::string>& names);
  /// NAME.weight and, for layer norms, NAME.bias.
  Norm norm(const std::string& name);
  /// An RMS norm over head_dim.
  Norm head_norm(const std::string& name);

  std::uint64_t resident_bytes() const noexcept { return resident_bytes_; }

 private:
  TensorView checked(const std::string& name) const;
  at::Tensor vector(const std::vector<std::string>& names);
  void done(const std::vector<std::string>& names);

  const ModelConfig& config_;
  const WeightSource& source_;
  Ops& ops_;
  std::unordered_map<std::string, std::vector<std::uint64_t>> shapes_;
  const EngineOptions& options_;
  std::uint64_t total_elements_ = 0;
  std::uint64_t done_elements_ = 0;
  std::uint64_t resident_bytes_ = 0;
};

}  // namespace farmesh::model
