#include "train/model_files.hpp"

#include <bit>
#include <fstream>
#include <numeric>

#include <nlohmann/json.hpp>

namespace farmesh::train {
namespace {

using nlohmann::ordered_json;

// Sizes and elements are written as they lie in memory; the format is little-endian.
static_assert(std::endian::native == std::endian::little);

std::size_t count_of(const std::vector<std::int64_t>& shape) {
  return static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
}

}  // namespace

Result<void> write_safetensors(const std::filesystem::path& file,
                               const std::map<std::string, SavedTensor>& tensors) {
  ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::uint64_t end = offset + tensor.values.size() * sizeof(std::uint16_t);
    header[name] = {{"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that tensors are aligned in a mapped file
  const std::uint64_t length = text.size();

  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << text;
  for (const auto& [name, tensor] : tensors) {
    out.write(reinterpret_cast<const char*>(tensor.values.data()),
              static_cast<std::streamsize>(tensor.values.size() * sizeof(std::uint16_t)));
  }
  out.close();
  if (!out) return Error{Errc::io_error, "cannot write " + file.string()};
  return {};
}

Result<std::map<std::string, SavedTensor>> read_safetensors(const std::filesystem::path& file) {
  const Error damaged{Errc::model_malformed, file.string() + " is not a file of this program"};
  std::ifstream in(file, std::ios::binary);
  std::uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  if (!in || length > (1u << 20)) return damaged;
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  const auto header = nlohmann::json::parse(text, nullptr, false);
  if (!in || !header.is_object()) return damaged;

  std::map<std::string, SavedTensor> tensors;
  for (const auto& [name, entry] : header.items()) {  // in the order of the data
    if (name == "__metadata__") continue;
    if (entry.value("dtype", "") != "BF16" || !entry["shape"].is_array()) return damaged;
    SavedTensor tensor;
    for (const auto& size : entry["shape"]) tensor.shape.push_back(size.get<std::int64_t>());
    if (count_of(tensor.shape) > (64u << 20)) return damaged;
    tensor.values.resize(count_of(tensor.shape));
    in.read(reinterpret_cast<char*>(tensor.values.data()),
            static_cast<std::streamsize>(tensor.values.size() * sizeof(std::uint16_t)));
    tensors.emplace(name, std::move(tensor));
  }
  if (!in) return damaged;
  return tensors;
}

Result<void> write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) return Error{Errc::io_error, "cannot write " + file.string()};
  return {};
}

}  // namespace farmesh::train
