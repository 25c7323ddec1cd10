#include "model/model_hash.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "base/mapped_file.hpp"
#include "base/thread.hpp"

namespace farmesh::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kLeafBytes = 16384;  // BEP 52
constexpr std::uint64_t kPieceLeaves = 256;  // hashed by one thread at a time: 4 MiB
constexpr std::size_t kMaxCacheBytes = 4 << 20;

struct FileRoot {
  std::uint64_t length = 0;
  Sha256Digest root{};
};

bool counts(const std::string& name) {
  static constexpr std::array<std::string_view, 12> kNames{"config.json",
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
  return name.ends_with(".safetensors") ||
         std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

Sha256Digest hash_pair(const Sha256Digest& left, const Sha256Digest& right) {
  std::array<std::uint8_t, 64> both;
  std::copy(left.begin(), left.end(), both.begin());
  std::copy(right.begin(), right.end(), both.begin() + 32);
  return sha256(std::as_bytes(std::span(both)));
}

/// The root over `leaves`, padded with zero hashes to a power of two.
Sha256Digest merkle_root(std::vector<Sha256Digest> leaves) {
  std::size_t width = 1;
  while (width < leaves.size()) width *= 2;
  leaves.resize(width);  // value-initialised: zero hashes
  for (; width > 1; width /= 2) {
    for (std::size_t i = 0; i < width / 2; ++i) {
      leaves[i] = hash_pair(leaves[2 * i], leaves[2 * i + 1]);
    }
  }
  return leaves[0];
}

/// Leaf hashes by all cores; the pages read leave memory again.
std::vector<Sha256Digest> hash_leaves(const MappedFile& file) {
  const ByteView bytes = file.bytes();
  const std::uint64_t count = (bytes.size() + kLeafBytes - 1) / kLeafBytes;
  std::vector<Sha256Digest> leaves(count);
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    for (;;) {
      const std::uint64_t begin = next.fetch_add(kPieceLeaves);
      if (begin >= count) return;
      const std::uint64_t end = std::min(begin + kPieceLeaves, count);
      for (std::uint64_t i = begin; i < end; ++i) {
        const std::uint64_t offset = i * kLeafBytes;
        leaves[i] = sha256(bytes.subspan(offset, std::min(kLeafBytes, bytes.size() - offset)));
      }
      file.drop(begin * kLeafBytes, (end - begin) * kLeafBytes);
    }
  };
  const std::uint64_t pieces = (count + kPieceLeaves - 1) / kPieceLeaves;
  const auto helpers =
      std::min<std::uint64_t>(pieces, static_cast<std::uint64_t>(available_cores()));
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i < helpers; ++i) threads.push_back(start_thread("fm-hash", work));
  work();
  for (std::thread& thread : threads) thread.join();
  return leaves;
}

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

Result<FileRoot> file_root(const fs::path& path, RootCache& cache) {
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
  if (result.length > 0) result.root = merkle_root(hash_leaves(*file));
  cache.put(key, size, mtime, result.root);
  return result;
}

void bencode_text(std::string& out, std::string_view text) {
  out += std::to_string(text.size());
  out += ':';
  out += text;
}

/// {name: {"": {"length": n, "pieces root": root}}, …}; an empty file has no root.
std::string bencode_tree(const std::map<std::string, FileRoot>& files) {
  std::string out = "d";
  for (const auto& [name, file] : files) {  // ordered by raw bytes, as bencoding wants
    bencode_text(out, name);
    out += "d0:d6:lengthi" + std::to_string(file.length) + "e";
    if (file.length > 0) {
      bencode_text(out, "pieces root");
      bencode_text(out, {reinterpret_cast<const char*>(file.root.data()), file.root.size()});
    }
    out += "ee";
  }
  return out + "e";
}

}  // namespace

Result<ModelHash> model_hash(const fs::path& folder, const fs::path& cache_file) {
  std::error_code failed;
  std::map<std::string, FileRoot> files;
  RootCache cache(cache_file);
  fs::directory_iterator entries(folder, failed);
  if (failed) return {Errc::model_not_found, folder.filename().string() + ": " + failed.message()};
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (!counts(name) || !entry.is_regular_file(failed)) continue;
    Result<FileRoot> root = file_root(entry.path(), cache);
    if (!root) return root.error();
    files.emplace(name, *root);
  }
  if (!files.contains("config.json")) {
    return {Errc::model_not_found, "there is no config.json in the folder"};
  }
  cache.save();
  const std::string tree = bencode_tree(files);
  return ModelHash{sha256(as_view(tree))};
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
