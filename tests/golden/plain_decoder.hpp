// A decoder written a second time, plainly and in double: no cache, no batches, no kernels. What
// the engine computes is held against it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_config.hpp"
#include "model/weight_source.hpp"

namespace farmesh::golden {

/// Random tensors for every name a config requires, kept as the bytes of a file.
class RandomWeights final : public model::WeightSource {
 public:
  RandomWeights(const model::ModelConfig& config, DType dtype, std::uint64_t seed);

  Result<model::TensorView> find(std::string_view name) const override;
  void release(std::string_view) const override {}

  /// The tensor's exact values, after rounding to `precision`.
  std::vector<double> values(const std::string& name, Precision precision) const;

 private:
  struct Tensor {
    std::vector<std::uint64_t> shape;
    std::vector<std::byte> bytes;
  };
  DType dtype_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

/// Logits [ids][vocab] of every position. Weights are rounded to `precision`; everything else is
/// double.
std::vector<std::vector<double>> plain_logits(const model::ModelConfig& config,
                                              const RandomWeights& weights, Precision precision,
                                              const std::vector<TokenId>& ids);

}  // namespace farmesh::golden
