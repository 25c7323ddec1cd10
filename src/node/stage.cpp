#include "node/stage.hpp"

#include <string>
#include <utility>

#include "model/engine_loader.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "node/cache_folder.hpp"
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

}  // namespace

Precision default_precision(const model::ModelConfig& config) noexcept {
  return config.file_dtype == DType::f32 ? Precision::f32 : Precision::bf16;
}

Result<Stage> load_stage(const StageOptions& options, net::Runtime& runtime) {
  const auto folder = model::ModelFolder::open(options.folder);
  if (!folder) return folder.error();
  const model::ModelConfig& config = (*folder)->config();
  const Result<Span> layers = checked_layers(options, config);
  if (!layers) return layers.error();
  const Result<ModelHash> hash = model::model_hash(options.folder, hash_cache_file());
  if (!hash) return hash.error();

  model::EngineOptions engine_options;
  engine_options.blocks = *layers;
  engine_options.head = options.head;
  engine_options.precision = options.precision.value_or(default_precision(config));
  engine_options.threads = options.threads;
  engine_options.on_progress = options.on_loading;
  auto engine = model::load_engine(config, **folder, engine_options);
  if (!engine) return engine.error();

  serve::WorkerLimits limits;
  limits.cache_tokens = options.cache_tokens;
  Result<std::unique_ptr<serve::Worker>> worker{Errc::ok};
  runtime.run_blocking([&] {
    worker = serve::Worker::create(*std::move(engine), serve::make_compute_thread(runtime.clock()),
                                   runtime.clock(), limits);
  });
  if (!worker) return worker.error();
  return Stage{config, *hash, *std::move(worker)};
}

}  // namespace farmesh::node
