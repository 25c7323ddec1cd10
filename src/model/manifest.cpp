#include "model/manifest.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <system_error>

#include "model/bencode.hpp"
#include "model/merkle.hpp"
#include "model/model_hash.hpp"

namespace farmesh::model {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxPieceBytes = 64 << 20;
constexpr std::uint64_t kUsualPieces = 2048;  // of a whole model
constexpr std::uint64_t kUsualMaxPieceBytes = 4 << 20;
constexpr std::uint64_t kMaxFileBytes = 1ull << 48;  // libtorrent's own bound
constexpr std::size_t kMaxFiles = 4096;
constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kMaxWebSeeds = 64;

Error malformed(const std::string& problem) {
  return {Errc::model_malformed, "the manifest " + problem};
}

bool is_file_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < ' ' || c == 127;
         });
}

bool is_piece_size(std::uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= kLeafBytes && bytes <= kMaxPieceBytes;
}

std::string_view as_text(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::optional<Sha256Digest> digest_of(std::string_view text) {
  Sha256Digest digest;
  if (text.size() != digest.size()) return std::nullopt;
  std::copy(text.begin(), text.end(), digest.begin());
  return digest;
}

std::map<std::string, FileRoot> tree_of(const std::vector<ManifestFile>& files) {
  std::map<std::string, FileRoot> tree;
  for (const ManifestFile& file : files) tree.emplace(file.name, FileRoot{file.length, file.root});
  return tree;
}

std::string encode_info(const Manifest& manifest) {
  std::string out = "d";
  append_bencoded(out, "file tree");
  out += bencode_tree(tree_of(manifest.files));
  append_bencoded(out, "meta version");
  append_bencoded(out, 2);
  append_bencoded(out, "name");
  append_bencoded(out, manifest.name);
  append_bencoded(out, "piece length");
  append_bencoded(out, manifest.piece_bytes);
  return out + "e";
}

/// {"": {"length": n, "pieces root": root}} of one file.
std::optional<FileRoot> read_leaf(BencodeReader& in) {
  FileRoot file;
  in.begin_dictionary();
  if (!in.key({}).empty()) in.fail();  // a folder
  in.begin_dictionary();
  std::string_view before;
  bool has_length = false, has_root = false;
  while (!in.end()) {
    before = in.key(before);
    if (before == "length") {
      file.length = in.number();
      has_length = true;
    } else if (before == "pieces root") {
      const auto root = digest_of(in.text());
      if (root) file.root = *root;
      has_root = root.has_value();
    } else {
      in.fail();  // would not be part of the model hash as folders have it
    }
  }
  if (!in.end()) in.fail();
  const bool sound = has_length && has_root == (file.length > 0) && file.length <= kMaxFileBytes;
  return in.ok() && sound ? std::optional(file) : std::nullopt;
}

Result<void> read_tree(BencodeReader& in, Manifest& manifest) {
  in.begin_dictionary();
  std::string_view before;
  while (!in.end()) {
    before = in.key(before);
    if (!is_file_name(before) || manifest.files.size() == kMaxFiles) {
      return malformed("names a file outside the folder, or too many");
    }
    const auto leaf = read_leaf(in);
    if (!leaf) return malformed("has a file that is not described as in BitTorrent v2");
    manifest.files.push_back({std::string(before), leaf->length, leaf->root, {}});
  }
  return {};
}

Result<void> read_info(BencodeReader& in, Manifest& manifest) {
  in.begin_dictionary();
  std::string_view before;
  bool is_v2 = false;
  while (!in.end()) {
    before = in.key(before);
    if (before == "file tree") {
      if (const Result<void> tree = read_tree(in, manifest); !tree) return tree;
    } else if (before == "meta version") {
      is_v2 = in.number() == 2;
    } else if (before == "name") {
      manifest.name = in.text();
    } else if (before == "piece length") {
      manifest.piece_bytes = in.number();
    } else {
      in.skip();
    }
  }
  if (!in.ok() || !is_v2) return malformed("is no torrent of version 2");
  if (!is_file_name(manifest.name) || !is_piece_size(manifest.piece_bytes)) {
    return malformed("has a name or a piece length that cannot be");
  }
  return {};
}

using Layers = std::map<std::string_view, std::string_view>;

void read_layers(BencodeReader& in, Layers& layers) {
  in.begin_dictionary();
  std::string_view before;
  while (!in.end()) {
    before = in.key(before);
    layers[before] = in.text();
  }
}

void read_web_seeds(BencodeReader& in, Manifest& manifest) {
  const auto add = [&] {
    std::string url(in.text());
    if (manifest.web_seeds.size() < kMaxWebSeeds) manifest.web_seeds.push_back(std::move(url));
  };
  if (in.peek() != 'l') return add();
  in.begin_list();
  while (!in.end()) add();
}

Result<void> take_layer(ManifestFile& file, const Layers& layers, std::uint64_t piece_bytes) {
  if (file.length == 0) return {};
  if (file.length <= piece_bytes) {
    file.pieces = {file.root};
    return {};
  }
  const auto at = layers.find(as_text(file.root));
  const std::uint64_t count = (file.length + piece_bytes - 1) / piece_bytes;
  if (at == layers.end() || at->second.size() != count * sizeof(Sha256Digest)) {
    return malformed("lacks the piece hashes of " + file.name);
  }
  for (std::size_t i = 0; i < count; ++i) {
    file.pieces.push_back(*digest_of(at->second.substr(i * 32, 32)));
  }
  if (root_of_pieces(file.pieces, piece_bytes) != file.root) {
    return malformed("has piece hashes of " + file.name + " that contradict its root");
  }
  return {};
}

/// About as many pieces whatever the model's size: they are what a node fetches at least.
std::uint64_t usual_piece_bytes(std::uint64_t all_bytes) {
  return std::clamp(std::bit_ceil(all_bytes / kUsualPieces + 1), kLeafBytes, kUsualMaxPieceBytes);
}

}  // namespace

const ManifestFile* Manifest::find(std::string_view file) const noexcept {
  const auto at = std::find_if(files.begin(), files.end(),
                               [&](const ManifestFile& each) { return each.name == file; });
  return at == files.end() ? nullptr : &*at;
}

ModelHash Manifest::model_hash() const { return hash_of_tree(tree_of(files)); }
Sha256Digest Manifest::info_hash() const { return sha256(as_view(info)); }

std::string Manifest::encode() const {
  Layers layers;
  std::vector<std::string> texts;
  texts.reserve(files.size());
  for (const ManifestFile& file : files) {
    if (file.length <= piece_bytes) continue;
    std::string& text = texts.emplace_back();
    for (const Sha256Digest& piece : file.pieces) text += as_text(piece);
    layers[as_text(file.root)] = text;
  }
  std::string out = "d4:info" + info;
  append_bencoded(out, "piece layers");
  out += 'd';
  for (const auto& [root, text] : layers) {
    append_bencoded(out, root);
    append_bencoded(out, text);
  }
  out += 'e';
  if (!web_seeds.empty()) {
    append_bencoded(out, "url-list");
    out += 'l';
    for (const std::string& url : web_seeds) append_bencoded(out, url);
    out += 'e';
  }
  return out + "e";
}

std::string Manifest::magnet() const {
  return "magnet:?xt=urn:btmh:1220" + farmesh::to_hex(info_hash());
}

bool Manifest::proves(const ManifestFile& file, std::size_t index, ByteView bytes) const {
  if (index >= file.pieces.size()) return false;
  const std::uint64_t begin = index * piece_bytes;
  if (bytes.size() != std::min(piece_bytes, file.length - begin)) return false;
  return piece_hash(bytes, piece_bytes, file.pieces.size() == 1) == file.pieces[index];
}

Result<Manifest> parse_manifest(std::string_view bytes) {
  if (bytes.size() > kMaxManifestBytes) return malformed("is longer than 64 MB");
  BencodeReader in(bytes);
  Manifest manifest;
  Layers layers;
  std::string_view before;
  in.begin_dictionary();
  while (!in.end()) {
    before = in.key(before);
    const std::size_t begin = in.offset();
    if (before == "info") {
      if (const Result<void> info = read_info(in, manifest); !info) return info.error();
      manifest.info = bytes.substr(begin, in.offset() - begin);
    } else if (before == "piece layers") {
      read_layers(in, layers);
    } else if (before == "url-list") {
      read_web_seeds(in, manifest);
    } else {
      in.skip();
    }
  }
  if (!in.at_end() || manifest.info.empty()) return malformed("is not bencoded, or cut");
  if (manifest.find("config.json") == nullptr) return malformed("has no config.json");
  for (ManifestFile& file : manifest.files) {
    if (const auto taken = take_layer(file, layers, manifest.piece_bytes); !taken) {
      return taken.error();
    }
  }
  return manifest;
}

Result<Manifest> make_manifest(const fs::path& folder, const ManifestOptions& options) {
  Manifest manifest;
  manifest.name = options.name;
  manifest.web_seeds = options.web_seeds;
  std::error_code failed;
  std::map<std::string, MappedFile> files;
  std::uint64_t all_bytes = 0;
  fs::directory_iterator entries(folder, failed);
  if (failed) return {Errc::model_not_found, folder.filename().string() + ": " + failed.message()};
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (!belongs_to_model(name) || !entry.is_regular_file(failed)) continue;
    Result<MappedFile> file = MappedFile::open(entry.path());
    if (!file) return file.error();
    all_bytes += file->bytes().size();
    files.emplace(name, *std::move(file));
  }
  if (!files.contains("config.json")) {
    return {Errc::model_not_found, "there is no config.json in the folder"};
  }
  manifest.piece_bytes =
      options.piece_bytes == 0 ? usual_piece_bytes(all_bytes) : options.piece_bytes;
  if (!is_piece_size(manifest.piece_bytes) || !is_file_name(manifest.name)) {
    return {Errc::invalid_argument, "a piece has 16 KiB to 64 MiB, a power of two"};
  }
  for (const auto& [name, mapped] : files) {
    ManifestFile file{name, mapped.bytes().size(), {}, {}};
    if (file.length > 0) {
      const std::vector<Sha256Digest> leaves = leaf_hashes(mapped);
      file.root = file_root(leaves);
      file.pieces = piece_hashes(leaves, manifest.piece_bytes);
    }
    manifest.files.push_back(std::move(file));
  }
  manifest.info = encode_info(manifest);
  return manifest;
}

}  // namespace farmesh::model
