// What one process computes of a model: an engine with its layers and, where asked, the head,
// behind one worker. One a process, whatever is served from it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include <farmesh/device.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

#include "base/types.hpp"
#include "driver/peer_set.hpp"
#include "model/model_config.hpp"
#include "net/runtime.hpp"
#include "node/measured_engine.hpp"
#include "serve/peer.hpp"
#include "serve/worker.hpp"
#include "weights/model_source.hpp"

namespace farmesh::node {

struct StageOptions {
  std::shared_ptr<weights::ModelSource> source;
  std::optional<Span> layers;  // nothing: all of them
  bool head = false;
  std::optional<Precision> precision;
  std::optional<KvFormat> kv;
  std::optional<Numerics> numerics;
  Device device;
  int threads = 0;
  std::optional<int> pin_threads;
  std::uint32_t cache_tokens = 16'384;
  std::function<void(std::uint64_t, std::uint64_t)> on_loading;
};

struct Stage {
  model::ModelConfig config;
  ModelHash hash;
  std::unique_ptr<serve::Worker> worker;  // belongs to the network thread
  std::shared_ptr<LayerSpeed> speed;
};

/// Fetches what the source lacks, learns the hash, loads the weights. On the caller's thread;
/// blocks. Fails with model_not_found, model_malformed, model_unsupported, config_mismatch,
/// invalid_argument (layers outside the model), engine_unavailable, out_of_memory, and as
/// weights::ModelSource.
Result<Stage> load_stage(const StageOptions& options, net::Runtime& runtime);

/// What stands for the address of a stage in this process, in routes and reports.
inline constexpr const char* kLocalName = "local";

/// Serves `worker` to the driver of this process, and to nobody else. On the network thread.
std::unique_ptr<serve::Peer> make_local_peer(net::Runtime& runtime, serve::Worker& worker,
                                             const model::ModelConfig& config,
                                             const ModelHash& hash);
/// Makes it known to `peers` as kLocalName. Fails as driver::PeerSet::add_local().
net::Task<Result<void>> add_local_peer(net::Runtime& runtime, serve::Peer& peer,
                                       driver::PeerSet& peers);

/// What the files call for when the caller does not say: f32 for f32, else bf16.
Precision default_precision(const model::ModelConfig& config) noexcept;

}  // namespace farmesh::node
