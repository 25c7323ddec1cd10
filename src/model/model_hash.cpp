#include "model/model_hash.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <optional>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "base/mapped_file.hpp"
#include "model/merkle.hpp"

namespace farmesh::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxCacheBytes = 4 << 20;

constexpr std::array<std::string_view, 12> kTextFiles{"config.json",
                                                      "generation_config.json",
                                                      "tokenizer.json",
                                                      "tokenizer.model",
                                                      "tokenizer_config.json",
                                                      "special_tokens_map.json",
                                                      "added_tokens.json",
                                                      "vocab.json",
                                                      "merges.txt",
                                                      "chat_template.json",
                                                      "chat_template.jinja",
                                                      "model.safetensors.index.json"};

/// Roots known from earlier runs, by path; an entry counts while size and mtime are the same.
class RootCache {
 public:
  explicit RootCache(fs::path path) : path_(std::move(path)) {
    if (path_.empty()) return;
    const Result<std::string> text = read_text_file(path_, kMaxCacheBytes);
    if (!text) return;
    json stored = json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (stored.is_object()) entries_ = std::move(stored);
  }

  std::optional<Sha256Digest> find(const std::string& key, std::uint64_t size,
                                   std::int64_t mtime) const {
    const auto at = entries_.find(key);
    if (at == entries_.end() || !at->is_object()) return std::nullopt;
    const auto root = at->find("root");
    Sha256Digest digest;
    if (at->value("size", json()) != size || at->value("mtime", json()) != mtime ||
        root == at->end() || !root->is_string() ||
        !from_hex(root->get_ref<const std::string&>(), digest)) {
      return std::nullopt;
    }
    return digest;
  }

  void put(const std::string& key, std::uint64_t size, std::int64_t mtime,
           const Sha256Digest& root) {
    entries_[key] = {{"size", size}, {"mtime", mtime}, {"root", farmesh::to_hex(root)}};
    changed_ = true;
  }

  /// Losing the cache costs time only: failures are ignored.
  void save() const {
    if (path_.empty() || !changed_) return;
    std::error_code ignored;
    fs::create_directories(path_.parent_path(), ignored);
    fs::path draft = path_;
    draft += ".new";
    {
      std::ofstream out(draft, std::ios::binary | std::ios::trunc);
      out << entries_.dump(1) << '\n';
      if (!out.flush()) return;
    }
    fs::rename(draft, path_, ignored);
  }

 private:
  fs::path path_;
  json entries_ = json::object();
  bool changed_ = false;
};

Result<FileRoot> root_of(const fs::path& path, RootCache& cache) {
  std::error_code failed;
  const std::uint64_t size = fs::file_size(path, failed);
  const fs::file_time_type written = fs::last_write_time(path, failed);
  const std::string key = fs::weakly_canonical(path, failed).string();
  if (failed) return {Errc::io_error, path.filename().string() + ": " + failed.message()};
  const auto mtime = static_cast<std::int64_t>(written.time_since_epoch().count());
  if (const auto known = cache.find(key, size, mtime)) return FileRoot{size, *known};
  const Result<MappedFile> file = MappedFile::open(path);
  if (!file) return file.error();
  FileRoot result{file->bytes().size(), {}};
  if (result.length > 0) result.root = file_root(leaf_hashes(*file));
  cache.put(key, size, mtime, result.root);
  return result;
}

}  // namespace

std::span<const std::string_view> text_files() { return kTextFiles; }

bool belongs_to_model(std::string_view name) {
  return name.ends_with(".safetensors") ||
         std::find(kTextFiles.begin(), kTextFiles.end(), name) != kTextFiles.end();
}

std::string bencode_tree(const std::map<std::string, FileRoot>& files) {
  std::string out = "d";
  for (const auto& [name, file] : files) {  // ordered by raw bytes, as bencoding wants
    out += std::to_string(name.size()) + ":" + name;
    out += "d0:d6:lengthi" + std::to_string(file.length) + "e";
    if (file.length > 0) {
      out += "11:pieces root32:";
      out.append(reinterpret_cast<const char*>(file.root.data()), file.root.size());
    }
    out += "ee";
  }
  return out + "e";
}

ModelHash hash_of_tree(const std::map<std::string, FileRoot>& files) {
  return ModelHash{sha256(as_view(bencode_tree(files)))};
}

Result<ModelHash> model_hash(const fs::path& folder, const fs::path& cache_file) {
  std::error_code failed;
  std::map<std::string, FileRoot> files;
  RootCache cache(cache_file);
  fs::directory_iterator entries(folder, failed);
  if (failed) return {Errc::model_not_found, folder.filename().string() + ": " + failed.message()};
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (!belongs_to_model(name) || !entry.is_regular_file(failed)) continue;
    Result<FileRoot> root = root_of(entry.path(), cache);
    if (!root) return root.error();
    files.emplace(name, *root);
  }
  if (!files.contains("config.json")) {
    return {Errc::model_not_found, "there is no config.json in the folder"};
  }
  cache.save();
  return hash_of_tree(files);
}

std::string to_hex(const ModelHash& hash) { return farmesh::to_hex(hash.bytes); }

Result<ModelHash> model_hash_from_hex(std::string_view hex) {
  ModelHash hash;
  if (!from_hex(hex, hash.bytes)) {
    return {Errc::invalid_argument, "a model hash is 64 hexadecimal digits"};
  }
  return hash;
}

}  // namespace farmesh::model
