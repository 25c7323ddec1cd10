// A Hugging Face model folder on disk: config.json and safetensors, mapped, checked, read lazily.
//
// Every offset, length, dtype and shape in a safetensors header is verified against the file
// before a byte of tensor data is touched; only pages of tensors asked for enter memory.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "model/model_config.hpp"
#include "model/weight_source.hpp"

namespace farmesh::model {

/// Largest accepted safetensors header (the format's own limit) and index file.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  // byte offsets in the data section, half-open
  std::uint64_t end = 0;
};

/// Where a tensor lies in the folder's files: bytes [begin, end) of one.
struct TensorPlace {
  std::string file;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// Parses a safetensors header (the JSON after the 8-byte length) for a data section of
/// `data_bytes`. Fails with model_malformed: not JSON, offsets outside the data, overlapping or
/// leaving holes, a size that contradicts dtype and shape, an overflow. Fails with
/// model_unsupported for dtypes outside DType.
Result<std::vector<SafetensorsEntry>> parse_safetensors_header(std::string_view json,
                                                               std::uint64_t data_bytes);

/// The weight files of a folder without opening one: those that model.safetensors.index.json names,
/// else model.safetensors. Fails with model_malformed.
Result<std::vector<std::string>> weight_files(const std::filesystem::path& folder);

/// config.json, and the end tokens that generation_config.json adds; opens no weights. Fails with
/// model_not_found, model_malformed, model_unsupported.
Result<ModelConfig> read_model_config(const std::filesystem::path& folder);

/// Beside a model's weights, where `farmesh model quantize` keeps what it makes of them.
std::filesystem::path packed_folder(const std::filesystem::path& folder, Precision precision);

/// Immutable after open(); readable from several threads.
class ModelFolder final : public WeightSource {
 public:
  /// Reads config.json and the headers of model.safetensors, or of the shards that
  /// model.safetensors.index.json names. Fails with model_not_found, model_malformed,
  /// model_unsupported.
  static Result<std::shared_ptr<const ModelFolder>> open(const std::filesystem::path& folder);
  ~ModelFolder() override;

  const ModelConfig& config() const noexcept;
  const std::filesystem::path& path() const noexcept;
  std::vector<SafetensorsEntry> tensors() const;  // by name

  /// Fails with config_mismatch, naming the first tensor that is absent or has another shape.
  Result<void> check_tensors(Span span, bool head) const;

  /// Fails with config_mismatch when there is no such tensor.
  Result<TensorPlace> place(std::string_view name) const;
  Result<TensorView> find(std::string_view name) const override;
  void release(std::string_view name) const override;

 private:
  struct Impl;
  explicit ModelFolder(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::model
