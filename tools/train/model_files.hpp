// The files of a Hugging Face model folder, as other programs read them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::train {

/// A bf16 tensor, row-major, little-endian.
struct SavedTensor {
  std::vector<std::int64_t> shape;
  std::vector<std::uint16_t> values;
};

/// Writes a safetensors file, tensors in the order of their names. Fails with io_error.
Result<void> write_safetensors(const std::filesystem::path& file,
                               const std::map<std::string, SavedTensor>& tensors);

/// Reads what write_safetensors() wrote. Fails with model_malformed.
Result<std::map<std::string, SavedTensor>> read_safetensors(const std::filesystem::path& file);

/// Writes `text` whole. Fails with io_error.
Result<void> write_text(const std::filesystem::path& file, const std::string& text);

}  // namespace farmesh::train
