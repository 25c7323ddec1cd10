#include "weights/model_source.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/mapped_file.hpp"
#include "model/manifest.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "weights/download.hpp"
#include "weights/hub.hpp"
#include "weights/piece_peers.hpp"
#include "weights/piece_store.hpp"

namespace farmesh::weights {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDefaultHub = "https://huggingface.co";
constexpr std::uint64_t kUnverifiedPieceBytes = 64 << 10;
constexpr std::size_t kMaxTextBytes = 128 << 20;  // of one file; tokenizers reach 35 MB
constexpr std::size_t kMaxPartBytes = 96;         // of either half of an id
constexpr int kTriesBesidePeers = 2;              // of a hub that is away
constexpr std::uint64_t kLengthBytes = 8;         // before a safetensors header

std::string from_environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool is_id_part(std::string_view text) {
  return !text.empty() && text.size() <= kMaxPartBytes && text.front() != '.' &&
         text.front() != '-' && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

/// As the name of one folder.
std::string folder_name(std::string text) {
  std::string name;
  for (const char c : text) name += c == '/' ? std::string("--") : std::string(1, c);
  return name;
}

bool is_offline(Errc code) {
  return code == Errc::connection_refused || code == Errc::connection_lost ||
         code == Errc::address_invalid || code == Errc::timeout || code == Errc::tls_failed ||
         code == Errc::busy;
}

/// One folder a model hash and piece size: marks of pieces mean nothing under another size.
std::string key_of(const model::Manifest& manifest) {
  return model::to_hex(manifest.model_hash()) + "-" + std::to_string(manifest.piece_bytes / 1024) +
         "k";
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i > 0; --i) {
    value = value << 8 | static_cast<std::uint8_t>(bytes[i - 1]);
  }
  return value;
}

class FolderSource final : public ModelSource {
 public:
  FolderSource(fs::path folder, fs::path hash_cache)
      : folder_(std::move(folder)), hash_cache_(std::move(hash_cache)) {}

  const fs::path& folder() const noexcept override { return folder_; }
  Result<void> fetch(Span, bool) override { return {}; }
  Result<ModelHash> hash() override { return model::model_hash(folder_, hash_cache_); }
  bool verified() const noexcept override { return true; }

 private:
  const fs::path folder_;
  const fs::path hash_cache_;
};

class HubSource final : public ModelSource {
 public:
  HubSource(std::string model, WeightsOptions options, fs::path cache,
            std::shared_ptr<PiecePeers> peers)
      : model_(std::move(model)),
        options_(std::move(options)),
        cache_(std::move(cache)),
        peers_(std::move(peers)) {}

  Result<void> open();

  const fs::path& folder() const noexcept override { return store_->folder(); }
  Result<void> fetch(Span layers, bool head) override;
  Result<ModelHash> hash() override;
  bool verified() const noexcept override { return manifest_.has_value(); }

 private:
  Result<void> read_told_hash();
  Result<std::string> find_manifest();
  Result<std::string> find_version();
  Result<void> open_store(const std::string& key);
  Result<void> fetch_texts();
  Result<void> fetch_text(const std::string& file);
  Result<void> fetch_header(const std::string& file);
  Result<void> bring(const std::vector<PieceRun>& wanted, bool tell);
  Result<ModelHash> unverified_hash() const;
  PieceRun whole(const std::string& file) const { return {file, 0, store_->piece_count(file)}; }
  PieceRun run_of(const std::string& file, std::uint64_t begin, std::uint64_t end) const {
    const std::uint64_t size = store_->piece_bytes();
    return {file, begin / size, (end + size - 1) / size};
  }
  fs::path place() const { return cache_ / "models" / folder_name(model_); }
  fs::path reference() const { return place() / "refs" / folder_name(options_.revision); }

  const std::string model_;
  const WeightsOptions options_;
  const fs::path cache_;
  const std::shared_ptr<PiecePeers> peers_;
  std::mutex mutex_;  // one fetch at a time
  std::unique_ptr<Hub> hub_;
  std::optional<model::Manifest> manifest_;
  std::string manifest_bytes_;
  std::optional<ModelHash> told_hash_;
  std::optional<WholeFile> config_;  // read to learn the version
  std::unique_ptr<PieceStore> store_;
  std::shared_ptr<const model::ModelFolder> opened_;
};

Result<void> HubSource::open() {
  if (const Result<void> told = read_told_hash(); !told) return told;
  HubOptions hub;
  hub.url = options_.hub;
  if (hub.url.empty()) hub.url = from_environment("HF_ENDPOINT");
  if (hub.url.empty()) hub.url = kDefaultHub;
  hub.model = model_;
  hub.revision = options_.revision;
  hub.token = options_.token.empty() ? from_environment("HF_TOKEN") : options_.token;
  auto made = Hub::create(std::move(hub));
  if (!made) return made.error();
  hub_ = *std::move(made);

  Result<std::string> key = find_version();
  if (!key && is_offline(key.error().code)) {
    // What was fetched before serves without the hub too, as far as it goes.
    const Result<std::string> known = read_text_file(reference(), 256);
    if (!known || !is_id_part(*known)) return key.error();
    log(LogLevel::warning, "weights",
        "going on with what is in the cache: " + key.error().to_string());
    key = *known;
  }
  if (!key) return key.error();
  return open_store(*key);
}

Result<void> HubSource::read_told_hash() {
  if (options_.model_hash.empty()) return {};
  const Result<ModelHash> hash = model::model_hash_from_hex(options_.model_hash);
  if (!hash) return {Errc::config_invalid, hash.error().detail};
  told_hash_ = *hash;
  return {};
}

/// Empty where there is none.
Result<std::string> HubSource::find_manifest() {
  if (!options_.manifest.empty()) {
    return read_text_file(options_.manifest, model::kMaxManifestBytes);
  }
  Result<WholeFile> file = hub_->whole(model::kManifestName, model::kMaxManifestBytes);
  if (file) return std::move(file->bytes);
  if (file.error().code == Errc::model_not_found) return std::string();
  return file.error();
}

/// The cache's name for the version at the hub: the model hash, else the commit or the revision.
Result<std::string> HubSource::find_version() {
  Result<std::string> bytes = find_manifest();
  if (!bytes) return bytes.error();
  if (!bytes->empty()) {
    Result<model::Manifest> manifest = model::parse_manifest(*bytes);
    if (!manifest) return manifest.error();
    const ModelHash hash = manifest->model_hash();
    if (told_hash_ && *told_hash_ != hash) {
      return Error{Errc::weights_mismatch,
                   "the manifest is of another model: " + model::to_hex(hash)};
    }
    manifest_ = *std::move(manifest);
    manifest_bytes_ = *std::move(bytes);
    return key_of(*manifest_);
  }
  Result<WholeFile> config = hub_->whole("config.json", model::kMaxConfigBytes);
  if (!config) {
    if (config.error().code != Errc::model_not_found) return config.error();
    return Error{Errc::model_not_found,
                 config.error().detail + "; nor is " + model_ + " a folder here"};
  }
  config_ = *std::move(config);
  const std::string& version = config_->commit.empty() ? options_.revision : config_->commit;
  const std::string key = folder_name(version);
  if (!is_id_part(key)) return Error{Errc::config_invalid, "no revision: " + version};
  return key;
}

Result<void> HubSource::open_store(const std::string& key) {
  const fs::path folder = place() / key;
  const fs::path kept = folder / ".farmesh" / "manifest";
  if (!manifest_) {
    const Result<std::string> bytes = read_text_file(kept, model::kMaxManifestBytes);
    Result<model::Manifest> known =
        bytes ? model::parse_manifest(*bytes) : Result<model::Manifest>(bytes.error());
    if (known && key_of(*known) == key) manifest_ = *std::move(known);
  }
  auto store = PieceStore::open(folder, manifest_ ? manifest_->piece_bytes : kUnverifiedPieceBytes);
  if (!store) return store.error();
  store_ = *std::move(store);
  const auto lock = store_->lock();
  if (!lock) return lock.error();
  if (!manifest_bytes_.empty()) {
    std::ofstream(kept, std::ios::binary | std::ios::trunc) << manifest_bytes_;
  } else if (!manifest_) {
    log(LogLevel::warning, "weights",
        hub_->host() + " has no " + model::kManifestName + " for " + model_ +
            ": what it sends is not verified");
  }

  if (const Result<void> texts = fetch_texts(); !texts) return texts;
  const auto files = model::weight_files(folder);
  if (!files) return files.error();
  for (const std::string& file : *files) {
    if (const Result<void> header = fetch_header(file); !header) return header;
  }
  if (const Result<void> saved = store_->save(); !saved) return saved;
  auto opened = model::ModelFolder::open(folder);
  if (!opened) return opened.error();
  opened_ = *std::move(opened);
  std::error_code ignored;
  fs::create_directories(reference().parent_path(), ignored);
  std::ofstream(reference(), std::ios::trunc) << key;
  return {};
}

/// Config, tokenizer and index, whole.
Result<void> HubSource::fetch_texts() {
  if (manifest_) {
    std::vector<PieceRun> wanted;
    for (const model::ManifestFile& file : manifest_->files) {
      if (!model::belongs_to_model(file.name) || file.name.ends_with(".safetensors")) continue;
      if (const auto begun = store_->begin(file.name, file.length, ""); !begun) return begun;
      wanted.push_back(whole(file.name));
    }
    return bring(wanted, false);
  }
  for (const std::string_view file : model::text_files()) {
    if (const Result<void> fetched = fetch_text(std::string(file)); !fetched) return fetched;
  }
  return {};
}

/// Without a manifest: one that the hub has not is no failure.
Result<void> HubSource::fetch_text(const std::string& file) {
  const FileState* const known = store_->find(file);
  const bool is_config = file == "config.json";
  if (known != nullptr && store_->is_whole(file)) {
    if (is_config && config_) return store_->begin(file, config_->bytes.size(), config_->etag);
    return {};
  }
  if (is_config && config_) return store_->put(file, config_->bytes, config_->etag);
  const Result<WholeFile> fetched = hub_->whole(file, kMaxTextBytes);
  if (fetched) return store_->put(file, fetched->bytes, fetched->etag);
  return fetched.error().code == Errc::model_not_found ? Result<void>() : fetched.error();
}

/// The file in its length, and of its content the header.
Result<void> HubSource::fetch_header(const std::string& file) {
  if (manifest_) {
    const model::ManifestFile* const known = manifest_->find(file);
    if (known == nullptr) return {Errc::model_malformed, "the manifest lacks " + file};
    if (const auto begun = store_->begin(file, known->length, ""); !begun) return begun;
  } else if (store_->find(file) == nullptr) {
    const auto begin = [&](const HubVersion& version) {
      return store_->begin(file, version.length, version.etag);
    };
    const auto first = hub_->range(file, 0, 1, begin, [](auto) { return Result<void>(); });
    if (!first) return first;
  }
  const std::uint64_t length = store_->find(file)->length;
  if (length < kLengthBytes) {
    return {Errc::model_malformed, file + ": too short for safetensors"};
  }
  if (const auto begun = bring({run_of(file, 0, kLengthBytes)}, false); !begun) return begun;
  const Result<std::string> size = store_->read(file, 0, kLengthBytes);
  if (!size) return size.error();
  const std::uint64_t header = little_endian(*size);
  if (header > model::kMaxSafetensorsHeaderBytes || header > length - kLengthBytes) {
    return {Errc::model_malformed, file + ": the header is longer than the file or 100 MB"};
  }
  return bring({run_of(file, 0, kLengthBytes + header)}, false);
}

/// What `tell`s is much: peers are asked first. Of the little before it they are the last resort.
Result<void> HubSource::bring(const std::vector<PieceRun>& wanted, bool tell) {
  DownloadOptions options;
  if (tell) options.on_progress = options_.on_download;
  const bool may_ask = peers_ && manifest_;
  if (may_ask) options.tries = kTriesBesidePeers;
  if (tell && may_ask) {
    const auto given = fetch_from_peers(*peers_, *store_, *manifest_, wanted, options);
    if (!given) return given;
  }
  const auto sent = download(*hub_, *store_, manifest_ ? &*manifest_ : nullptr, wanted, options);
  if (sent || tell || !may_ask || !is_offline(sent.error().code)) return sent;
  const auto given = fetch_from_peers(*peers_, *store_, *manifest_, wanted, options);
  return given && missing(*store_, wanted).empty() ? given : sent;
}

Result<void> HubSource::fetch(Span layers, bool head) {
  const std::lock_guard guard(mutex_);
  std::vector<PieceRun> wanted;
  for (const model::TensorSpec& spec : model::required_tensors(opened_->config(), layers, head)) {
    const Result<model::TensorPlace> place = opened_->place(spec.name);
    if (!place) return place.error();
    wanted.push_back(run_of(place->file, place->begin, place->end));
  }
  if (missing(*store_, wanted).empty()) return {};
  const auto lock = store_->lock();
  if (!lock) return lock.error();
  return bring(wanted, true);
}

/// Without hashes: what the hub calls its weight files, and the texts as they came. Those who fetch
/// from one hub agree on it, and it can be nobody's model hash.
Result<ModelHash> HubSource::unverified_hash() const {
  const auto weights = model::weight_files(folder());
  if (!weights) return weights.error();
  std::string names = "farmesh unverified model v1\n";
  for (const std::string& file : *weights) {
    const FileState* const known = store_->find(file);
    if (known == nullptr || known->etag.empty()) {
      return Error{Errc::hash_unknown, hub_->host() + " has neither " + model::kManifestName +
                                           " for " + model_ + " nor an ETag for " + file +
                                           ": name the model's hash with --model-hash"};
    }
    names += file + "\n" + std::to_string(known->length) + "\n" + known->etag + "\n";
  }
  for (const std::string_view file : model::text_files()) {
    if (!store_->is_whole(std::string(file))) continue;
    const Result<std::string> text = read_text_file(folder() / file, kMaxTextBytes);
    if (!text) return text.error();
    names += std::string(file) + "\n" + farmesh::to_hex(sha256(as_view(*text))) + "\n";
  }
  return ModelHash{sha256(as_view(names))};
}

Result<ModelHash> HubSource::hash() {
  if (manifest_) return manifest_->model_hash();
  if (told_hash_) return *told_hash_;
  const std::lock_guard guard(mutex_);
  return unverified_hash();
}

}  // namespace

bool is_model_id(std::string_view model) {
  const std::size_t slash = model.find('/');
  std::error_code ignored;
  return slash != std::string_view::npos && is_id_part(model.substr(0, slash)) &&
         is_id_part(model.substr(slash + 1)) && !fs::exists(fs::path(model), ignored);
}

Result<std::shared_ptr<ModelSource>> open_source(const std::string& model,
                                                 const WeightsOptions& options,
                                                 const fs::path& cache_folder,
                                                 const fs::path& hash_cache,
                                                 std::shared_ptr<PiecePeers> peers) {
  if (!is_model_id(model)) {
    return std::shared_ptr<ModelSource>(std::make_shared<FolderSource>(model, hash_cache));
  }
  const fs::path cache = options.cache_dir.empty() ? cache_folder : fs::path(options.cache_dir);
  if (cache.empty()) {
    return Error{Errc::config_invalid, "no home for a cache folder: set FARMESH_CACHE_DIR"};
  }
  auto source = std::make_shared<HubSource>(model, options, cache, std::move(peers));
  if (const Result<void> opened = source->open(); !opened) return opened.error();
  return std::shared_ptr<ModelSource>(std::move(source));
}

}  // namespace farmesh::weights
