#include "model/torch/weight_loader.hpp"

#include <utility>

#include "base/assert.hpp"

namespace farmesh::model {
namespace {

std::string text(const std::vector<std::uint64_t>& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return out + "]";
}

std::uint64_t elements(const std::vector<std::uint64_t>& shape) {
  std::uint64_t count = 1;
  for (const std::uint64_t size : shape) count *= size;
  return count;
}

}  // namespace

WeightLoader::WeightLoader(const ModelConfig& config, const WeightSource& source, Ops& ops,
                           std::vector<TensorSpec> specs, const EngineOptions& options)
    : config_(config), source_(source), ops_(ops), options_(options) {
  for (TensorSpec& spec : specs) {
    total_elements_ += elements(spec.shape);
    shapes_.emplace(std::move(spec.name), std::move(spec.shape));
  }
}

TensorView WeightLoader::checked(const std::string& name) const {
  const auto expected = shapes_.find(name);
  FARMESH_ASSERT(expected != shapes_.end());
  Result<TensorView> found = source_.find(name);
  if (!found) throw LoadFailure{found.error()};
  if (found->shape != expected->second) {
    throw LoadFailure{{Errc::config_mismatch, name + " has shape " + text(found->shape) +
                                                  ", config.json implies " +
                                                  text(expected->second)}};
  }
  const DType dtype = found->dtype;
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f16) {
    throw LoadFailure{{Errc::model_unsupported, name + " is stored as " +
                                                    std::string(farmesh::name(dtype)) +
                                                    "; f32, bf16 and f16 files can be loaded"}};
  }
  if (found->bytes.size() != elements(found->shape) * bytes_of(dtype)) {
    throw LoadFailure{{Errc::config_mismatch, name + " has bytes that contradict its shape"}};
  }
  return *std::move(found);
}

void WeightLoader::done(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    source_.release(name);
    done_elements_ += elements(shapes_.at(name));
  }
  const std::uint64_t size = bytes_of(config_.file_dtype);
  if (options_.on_progress) options_.on_progress(done_elements_ * size, total_elements_ * size);
}

std::shared_ptr<const Matrix> WeightLoader::matrix(const std::vector<std::string>& names,
                                                   MatrixRole role) {
  std::vector<std::string> full;
  std::vector<TensorView> parts;
  for (const std::string& name : names) {
    full.push_back(name + ".weight");
    parts.push_back(checked(full.back()));
  }
  const std::string key = names.front() + "+" + std::to_string(names.size() - 1);
  std::shared_ptr<const Matrix> matrix = ops_.matrix(parts, role, key);
  resident_bytes_ += matrix->bytes();
  if (options_.on_quantised) {
    const std::optional<WeightError> error = ops_.error_of(*matrix, parts);
    if (error) options_.on_quantised(full, matrix->bytes(), *error);
  }
  done(full);
  return matrix;
}

at::Tensor WeightLoader::vector(const std::vector<std::string>& names) {
  std::vector<TensorView> parts;
  for (const std::string& name : names) parts.push_back(checked(name));
  at::Tensor vector = ops_.vector(parts);
  resident_bytes_ += static_cast<std::uint64_t>(vector.numel()) * sizeof(float);
  done(names);
  return vector;
}

at::Tensor WeightLoader::bias(const std::vector<std::string>& names) {
  std::vector<std::string> full;
  for (const std::string& name : names) full.push_back(name + ".bias");
  return vector(full);
}

Norm WeightLoader::norm(const std::string& name) {
  Norm norm{config_.norm, config_.norm_eps, vector({name + ".weight"}), {}};
  if (norm.kind == NormKind::layer) norm.bias = vector({name + ".bias"});
  return norm;
}

Norm WeightLoader::head_norm(const std::string& name) {
  return {NormKind::rms, config_.norm_eps, vector({name + ".weight"}), {}};
}

}  // namespace farmesh::model
