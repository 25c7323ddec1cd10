#include "node/stage.hpp"

#include <string>
#include <utility>

#include "base/log.hpp"
#include "base/thread.hpp"
#include "model/engine_loader.hpp"
#include "model/model_folder.hpp"
#include "net/sim_transport.hpp"
#include "node/hello.hpp"
#include "serve/compute.hpp"

namespace farmesh::node {
namespace {

Result<Span> checked_layers(const StageOptions& options, const model::ModelConfig& config) {
  const Span all{0, config.num_layers};
  const Span layers = options.layers.value_or(all);
  if (layers.begin <= layers.end && layers.end <= config.num_layers &&
      (options.head || !layers.empty())) {
    return layers;
  }
  return {Errc::invalid_argument, "layers " + std::to_string(layers.begin) + ":" +
                                      std::to_string(layers.end) + " of a model with " +
                                      std::to_string(config.num_layers)};
}

/// What is computed for what was asked: a CPU has no f16 arithmetic, and says so.
Precision computed_precision(const StageOptions& options, const model::ModelConfig& config) {
  const Precision asked = options.precision.value_or(default_precision(config));
  if (asked != Precision::f16 || options.device.kind != DeviceKind::cpu) return asked;
  log(LogLevel::warning, "node", "float16 arithmetic needs a GPU: this node computes in bf16");
  return Precision::bf16;
}

}  // namespace

Precision default_precision(const model::ModelConfig& config) noexcept {
  return config.file_dtype == DType::f32 ? Precision::f32 : Precision::bf16;
}

Result<Stage> load_stage(const StageOptions& options, net::Runtime& runtime) {
  const std::filesystem::path& path = options.source->folder();
  const auto folder = model::ModelFolder::open(path);
  if (!folder) return folder.error();
  const model::ModelConfig& config = (*folder)->config();
  const Result<Span> layers = checked_layers(options, config);
  if (!layers) return layers.error();
  const Result<void> fetched = options.source->fetch(*layers, options.head);
  if (!fetched) return fetched.error();
  const Result<ModelHash> hash = options.source->hash();
  if (!hash) return hash.error();

  model::EngineOptions engine_options;
  engine_options.blocks = *layers;
  engine_options.head = options.head;
  engine_options.precision = computed_precision(options, config);
  engine_options.kv = options.kv;
  engine_options.numerics = options.numerics;
  engine_options.device = options.device;
  engine_options.packed = {model::packed_folder(path, engine_options.precision), *hash};
  engine_options.threads = options.threads;
  engine_options.pin_threads = options.pin_threads;
  engine_options.on_progress = options.on_loading;
  auto engine = model::load_engine(config, **folder, engine_options);
  if (!engine) return engine.error();

  const auto speed = std::make_shared<LayerSpeed>();
  auto measured = std::make_unique<MeasuredEngine>(*std::move(engine), speed);

  serve::WorkerLimits limits;
  limits.cache_tokens = options.cache_tokens;
  Result<std::unique_ptr<serve::Worker>> worker{Errc::ok};
  runtime.run_blocking([&] {
    Result<std::unique_ptr<serve::Compute>> compute = serve::make_compute_thread(runtime.clock());
    if (!compute) {
      worker = compute.error();
      return;
    }
    worker =
        serve::Worker::create(std::move(measured), *std::move(compute), runtime.clock(), limits);
    // Beside the compute thread, which it wakes and is woken by: another core would have to wake
    // first, twice a pass.
    if (options.pin_threads) pin_this_thread(*options.pin_threads);
  });
  if (!worker) return worker.error();
  return Stage{config, *hash, *std::move(worker), speed};
}

std::unique_ptr<serve::Peer> make_local_peer(net::Runtime& runtime, serve::Worker& worker,
                                             const model::ModelConfig& config,
                                             const ModelHash& hash) {
  serve::PeerOptions options;
  options.node_id = runtime.node_id();
  options.software = software_name();
  options.model_hash = hash;
  options.num_layers = config.num_layers;
  return std::make_unique<serve::Peer>(runtime.tcp(), worker, std::move(options));
}

net::Task<Result<void>> add_local_peer(net::Runtime& runtime, serve::Peer& peer,
                                       driver::PeerSet& peers) {
  auto [driver_end, stage_end] =
      net::make_pipe(runtime.clock(), kLocalName, "driver", {}, runtime.node_id());
  peer.attach(std::move(stage_end));
  auto adding = peers.add_local(kLocalName, std::move(driver_end));
  const Result<void> added = co_await std::move(adding);
  co_return added;
}

}  // namespace farmesh::node
