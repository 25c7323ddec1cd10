// Takes a model's folder or its id at a hub, gives a folder that model/ can map: whole, or with
// holes where nobody asked for the tensors.
//
// Of an id the pieces are verified against the model's manifest (model/manifest.hpp) where there
// is one. What is there already, from this process or another, is never fetched again.
// Threading: thread-safe; fetch() and hash() block.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>
#include <farmesh/weights.hpp>

#include "base/types.hpp"

namespace farmesh::weights {

class PiecePeers;

/// Whether `model` is written as an id, "ORG/NAME", and no such folder exists.
bool is_model_id(std::string_view model);

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  virtual const std::filesystem::path& folder() const noexcept = 0;
  /// The tensors of `layers` and, with `head`, those of the head are in the folder afterwards.
  /// Fails with model_not_found, hub_refused, hub_changed, weights_damaged, disk_full, bad_http,
  /// model_malformed, connection_lost and what else a download can meet.
  virtual Result<void> fetch(Span layers, bool head) = 0;
  /// A folder's own; of an id that of the manifest or WeightsOptions::model_hash, else one made of
  /// the hub's ETags, which only those who fetch from there share. Fails with hash_unknown.
  virtual Result<ModelHash> hash() = 0;
  /// Every byte that was fetched is proven by the hash.
  virtual bool verified() const noexcept = 0;
};

/// Opens a folder as it is, or an id: then config, tokenizer and headers are fetched here.
/// `hash_cache`: as for model::model_hash(). `peers`, if any, are asked before the hub for what a
/// manifest proves. Fails as ModelSource::fetch(), and with
/// config_invalid (hub, manifest or hash that cannot be used, or no cache folder).
Result<std::shared_ptr<ModelSource>> open_source(const std::string& model,
                                                 const WeightsOptions& options,
                                                 const std::filesystem::path& cache_folder,
                                                 const std::filesystem::path& hash_cache,
                                                 std::shared_ptr<PiecePeers> peers = {});

}  // namespace farmesh::weights
