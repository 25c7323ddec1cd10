#include "model/model_folder.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/mapped_file.hpp"

namespace farmesh::model {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxShards = 4096;

std::uint64_t little_endian_u64(ByteView bytes) {
  std::uint64_t value = 0;
  for (int i = 7; i >= 0; --i) {
    value = value << 8 | std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
  }
  return value;
}

Error prefixed(const std::string& file, const Error& error) {
  return {error.code, file + ": " + error.detail};
}

/// A mapped safetensors file, its header verified.
struct Shard {
  std::string name;
  MappedFile file;
  std::uint64_t data_offset = 0;
  std::vector<SafetensorsEntry> entries;

  static Result<Shard> open(const std::filesystem::path& path) {
    Result<MappedFile> file = MappedFile::open(path);
    if (!file) return file.error();
    const std::string name = path.filename().string();
    const ByteView bytes = file->bytes();
    if (bytes.size() < 8) return {Errc::model_malformed, name + ": too short for safetensors"};
    const std::uint64_t header = little_endian_u64(bytes);
    if (header > kMaxSafetensorsHeaderBytes || header > bytes.size() - 8) {
      return {Errc::model_malformed, name + ": the header is longer than the file or 100 MB"};
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header);
    Result<std::vector<SafetensorsEntry>> entries =
        parse_safetensors_header(text, bytes.size() - 8 - header);
    if (!entries) return prefixed(name, entries.error());
    Shard shard;
    shard.name = name;
    shard.file = *std::move(file);
    shard.data_offset = 8 + header;
    shard.entries = *std::move(entries);
    return shard;
  }
};

/// tensor name → file name, from model.safetensors.index.json.
Result<std::map<std::string, std::string>> read_index(const std::filesystem::path& path) {
  const Error malformed{Errc::model_malformed, path.filename().string() + " is not an index"};
  Result<std::string> text = read_text_file(path, kMaxSafetensorsHeaderBytes);
  if (!text) return text.error();
  const json index = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object()) return malformed;
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) return malformed;
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string()) return malformed;
    const auto name = file.get<std::string>();
    // A name of this folder: an index must not make us read elsewhere.
    if (name.empty() || name.find_first_of("/\\") != std::string::npos || name == "..") {
      return {Errc::model_malformed, "the index names a file outside the folder"};
    }
    files.emplace(tensor, name);
  }
  return files;
}

/// Adds the end tokens of generation_config.json, which instruct models keep only there.
Result<void> add_end_tokens(const std::filesystem::path& folder, ModelConfig& config) {
  const Result<std::string> text =
      read_text_file(folder / "generation_config.json", kMaxConfigBytes);
  if (!text) return text.error().code == Errc::model_not_found ? Result<void>() : text.error();
  const json object = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return {Errc::model_malformed, "generation_config.json is not a JSON object"};
  }
  const auto eos = object.find("eos_token_id");
  if (eos == object.end()) return {};
  for (const json& id : eos->is_array() ? *eos : json::array({*eos})) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= config.vocab_size) continue;
    const auto token = id.get<TokenId>();
    std::vector<TokenId>& known = config.eos_tokens;
    if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
  return {};
}

}  // namespace

struct ModelFolder::Impl {
  struct Place {
    const Shard* shard;
    const SafetensorsEntry* entry;
  };

  std::filesystem::path path;
  ModelConfig config;
  std::vector<std::unique_ptr<Shard>> shards;
  std::unordered_map<std::string_view, Place> places;  // keys lie in the shards' entries

  /// Adds all tensors of `shard`, or those for which `wanted` holds.
  template <class Wanted>
  void add(Shard shard, const Wanted& wanted) {
    shards.push_back(std::make_unique<Shard>(std::move(shard)));
    for (const SafetensorsEntry& entry : shards.back()->entries) {
      if (wanted(entry.name)) places.emplace(entry.name, Place{shards.back().get(), &entry});
    }
  }

  Result<void> open_single() {
    Result<Shard> shard = Shard::open(path / "model.safetensors");
    if (!shard) return shard.error();
    add(*std::move(shard), [](const std::string&) { return true; });
    return {};
  }

  Result<void> open_shards(const std::filesystem::path& index_path) {
    Result<std::map<std::string, std::string>> index = read_index(index_path);
    if (!index) return index.error();
    std::map<std::string, std::size_t> tensors_of;
    for (const auto& [tensor, file] : *index) ++tensors_of[file];
    if (tensors_of.size() > kMaxShards) {
      return {Errc::model_malformed, "the index names too many files"};
    }
    for (const auto& [file, count] : tensors_of) {
      Result<Shard> shard = Shard::open(path / file);
      if (!shard) return shard.error();
      const std::size_t before = places.size();
      add(*std::move(shard), [&, file = file](const std::string& tensor) {
        const auto at = index->find(tensor);
        return at != index->end() && at->second == file;
      });
      if (places.size() - before != count) {
        return {Errc::model_malformed, file + " lacks a tensor that the index places there"};
      }
    }
    return {};
  }
};

ModelFolder::ModelFolder(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
ModelFolder::~ModelFolder() = default;

Result<std::vector<std::string>> weight_files(const std::filesystem::path& folder) {
  std::error_code ignored;
  const std::filesystem::path path = folder / "model.safetensors.index.json";
  if (!std::filesystem::exists(path, ignored)) return std::vector<std::string>{"model.safetensors"};
  const Result<std::map<std::string, std::string>> index = read_index(path);
  if (!index) return index.error();
  std::set<std::string> files;
  for (const auto& [tensor, file] : *index) files.insert(file);
  if (files.size() > kMaxShards) {
    return {Errc::model_malformed, "the index names too many files"};
  }
  return std::vector<std::string>(files.begin(), files.end());
}

Result<ModelConfig> read_model_config(const std::filesystem::path& folder) {
  Result<std::string> text = read_text_file(folder / "config.json", kMaxConfigBytes);
  if (!text) return text.error();
  Result<ModelConfig> config = parse_model_config(*text);
  if (!config) return config;
  if (Result<void> added = add_end_tokens(folder, *config); !added) return added.error();
  return config;
}

Result<std::shared_ptr<const ModelFolder>> ModelFolder::open(const std::filesystem::path& folder) {
  auto impl = std::make_unique<Impl>();
  impl->path = folder;
  Result<ModelConfig> config = read_model_config(folder);
  if (!config) return config.error();
  impl->config = *std::move(config);
  std::error_code ignored;
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  Result<void> opened =
      std::filesystem::exists(index, ignored) ? impl->open_shards(index) : impl->open_single();
  if (!opened) return opened.error();
  return std::shared_ptr<const ModelFolder>(new ModelFolder(std::move(impl)));
}

const ModelConfig& ModelFolder::config() const noexcept { return impl_->config; }
const std::filesystem::path& ModelFolder::path() const noexcept { return impl_->path; }

std::vector<SafetensorsEntry> ModelFolder::tensors() const {
  std::vector<SafetensorsEntry> all;
  for (const auto& [name, place] : impl_->places) all.push_back(*place.entry);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return all;
}

Result<void> ModelFolder::check_tensors(Span span, bool head) const {
  for (const TensorSpec& spec : required_tensors(impl_->config, span, head)) {
    const auto at = impl_->places.find(spec.name);
    if (at == impl_->places.end()) {
      return {Errc::config_mismatch, spec.name + " is in none of the weight files"};
    }
    if (at->second.entry->shape != spec.shape) {
      return {Errc::config_mismatch, spec.name + " has another shape than config.json implies"};
    }
  }
  return {};
}

Result<TensorPlace> ModelFolder::place(std::string_view name) const {
  const auto at = impl_->places.find(name);
  if (at == impl_->places.end()) {
    return {Errc::config_mismatch, std::string(name) + " is in none of the weight files"};
  }
  const auto& [shard, entry] = at->second;
  return TensorPlace{shard->name, shard->data_offset + entry->begin,
                     shard->data_offset + entry->end};
}

Result<TensorView> ModelFolder::find(std::string_view name) const {
  const auto at = impl_->places.find(name);
  if (at == impl_->places.end()) {
    return {Errc::config_mismatch, std::string(name) + " is in none of the weight files"};
  }
  const auto& [shard, entry] = at->second;
  const ByteView bytes =
      shard->file.bytes().subspan(shard->data_offset + entry->begin, entry->end - entry->begin);
  return TensorView{entry->dtype, entry->shape, bytes};
}

void ModelFolder::release(std::string_view name) const {
  const auto at = impl_->places.find(name);
  if (at == impl_->places.end()) return;
  const auto& [shard, entry] = at->second;
  shard->file.drop(shard->data_offset + entry->begin, entry->end - entry->begin);
}

std::filesystem::path packed_folder(const std::filesystem::path& folder, Precision precision) {
  return folder / "packed" / name(precision);
}

}  // namespace farmesh::model
