// farmesh bench decode, prefill: one engine without sockets, beside what this machine's memory and
// arithmetic give in the same run.
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/bench.hpp"
#include "cli/terminal.hpp"
#include "model/engine_load.hpp"
#include "model/engine_loader.hpp"
#include "model/machine_probe.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

using model::LoadShape;

constexpr double kLeastSeconds = 0.5;  // of steps in each round

struct WholeEngine {
  model::ModelConfig config;
  KvFormat kv;
  std::unique_ptr<model::StageEngine> engine;
};

/// A synthetic model, all of it, with pages for the largest of `shapes`: one for each format of the
/// KV cache that is asked for.
Result<std::vector<WholeEngine>> open_engines(const BenchOptions& options, const std::string& shape,
                                              Precision precision,
                                              const std::vector<LoadShape>& shapes) {
  const Result<std::string> path = synthetic_model(options, shape);
  if (!path) return path.error();
  const auto folder = model::ModelFolder::open(*path);
  if (!folder) return folder.error();
  std::vector<KvFormat> kvs = options.kvs;
  if (kvs.empty()) kvs.push_back(model::usual_kv(precision));
  std::vector<WholeEngine> engines;
  for (const KvFormat kv : kvs) {
    model::EngineOptions engine_options;
    engine_options.blocks = {0, (*folder)->config().num_layers};
    engine_options.head = true;
    engine_options.precision = precision;
    engine_options.kv = kv;
    engine_options.threads = options.threads;
    auto engine = model::load_engine((*folder)->config(), **folder, engine_options);
    if (!engine) return engine.error();
    std::uint32_t pages = 1;
    for (const LoadShape& load : shapes) {
      pages = std::max(pages, load.sessions * load.pages_each((*engine)->info().page_tokens));
    }
    if (Result<void> reserved = (*engine)->reserve_pages(pages); !reserved) return reserved.error();
    engines.push_back({(*folder)->config(), kv, *std::move(engine)});
  }
  return engines;
}

/// Steps for half a second, at least one: each one's seconds.
Result<void> run_for_a_while(model::EngineLoad& load, std::vector<double>& seconds) {
  for (double total = 0.0; total < kLeastSeconds;) {
    const Result<double> time = load.run();
    if (!time) return time.error();
    seconds.push_back(*time);
    total += *time;
  }
  return {};
}

/// What one engine and load measure: the medians of a step, and of the limit beside it.
struct Measured {
  double step_seconds = 0.0;
  double limit = 0.0;  // bytes or operations a second
};

/// One for each engine under each load, engines in turns: [load * engines + engine].
Result<std::vector<Measured>> measure(const BenchOptions& options,
                                      const std::vector<WholeEngine>& engines,
                                      const std::vector<LoadShape>& shapes,
                                      const std::function<double()>& probe) {
  std::vector<std::vector<double>> seconds(shapes.size() * engines.size());
  std::vector<double> limits;
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < seconds.size(); ++i) {
      const WholeEngine& whole = engines[i % engines.size()];
      model::EngineLoad load(*whole.engine, whole.config, shapes[i / engines.size()]);
      if (round == 0) {  // memory is touched for the first time
        if (const Result<double> first = load.run(); !first) return first.error();
      }
      limits.push_back(probe());
      if (Result<void> ran = run_for_a_while(load, seconds[i]); !ran) return ran.error();
    }
  }
  std::vector<Measured> measured;
  for (std::vector<double>& times : seconds) {
    measured.push_back({median(std::move(times)), median(limits)});
  }
  return measured;
}

std::string named(Precision precision, const LoadShape& load) {
  std::string what(name(precision));
  if (load.rows_each > 1) what += fmt::format(", {} tokens", load.rows_each);
  if (load.rows_each == 1) {
    what += fmt::format(", {} session{}", load.sessions, load.sessions == 1 ? "" : "s");
  }
  if (load.context > 0) what += fmt::format(" at {}", load.context);
  return what;
}

/// The row, named by the engine's cache where one was asked for; for all engines but the first also
/// one that stands beside the first's, taken in the same turns.
void append(const BenchOptions& options, const std::vector<WholeEngine>& engines, std::size_t which,
            double first, BenchRow row, Rows& rows) {
  if (!options.kvs.empty()) row.what += fmt::format(", {} kv", name(engines[which].kv));
  rows.push_back(row);
  if (which == 0) return;
  row.beside = fmt::format("{} kv", name(engines[0].kv));
  row.other = first;
  rows.push_back(std::move(row));
}

Result<void> append_decode(const BenchOptions& options, const std::string& shape,
                           Precision precision, model::BandwidthProbe& probe, Rows& rows) {
  std::vector<LoadShape> loads;
  for (const std::uint32_t context : options.contexts) {
    for (const std::uint32_t sessions : options.sessions) loads.push_back({sessions, 1, context});
  }
  const auto engines = open_engines(options, shape, precision, loads);
  if (!engines) return engines.error();
  const auto measured = measure(options, *engines, loads, [&] { return probe.measure(); });
  if (!measured) return measured.error();
  for (std::size_t i = 0; i < measured->size(); ++i) {
    const std::size_t which = i % engines->size();
    const LoadShape& load = loads[i / engines->size()];
    const double bytes = model::step_bytes((*engines)[which].engine->info(), load);
    const Measured& at = (*measured)[i];
    BenchRow row{"decode", shape, named(precision, load)};
    row.value = load.sessions / at.step_seconds;
    row.beside =
        fmt::format("{:.0f} MB a token, {:.1f} GB/s", bytes / 1e6 / load.sessions, at.limit / 1e9);
    row.other = load.sessions * at.limit / bytes;
    row.unit = "tokens/s";
    append(options, *engines, which, load.sessions / (*measured)[i - which].step_seconds,
           std::move(row), rows);
  }
  return {};
}

Result<void> append_prefill(const BenchOptions& options, const std::string& shape,
                            Precision precision, Rows& rows) {
  const bool quantised = precision == Precision::int8 || precision == Precision::int4;
  std::vector<LoadShape> loads;
  for (const std::uint32_t context : options.contexts) {
    for (const std::uint32_t tokens : options.prompts) loads.push_back({1, tokens, context});
  }
  const auto engines = open_engines(options, shape, precision, loads);
  if (!engines) return engines.error();
  bool bytes = false;
  const auto measured = measure(options, *engines, loads, [&] {
    const model::ArithmeticRates rates = model::measure_arithmetic(options.threads);
    bytes = quantised && rates.i8 > 0.0;
    return bytes ? rates.i8 : rates.f32;
  });
  if (!measured) return measured.error();
  for (std::size_t i = 0; i < measured->size(); ++i) {
    const std::size_t which = i % engines->size();
    const LoadShape& load = loads[i / engines->size()];
    const double operations = model::step_operations((*engines)[which].config, load);
    const Measured& at = (*measured)[i];
    BenchRow row{"prefill", shape, named(precision, load)};
    row.value = load.rows_each / at.step_seconds;
    row.beside = fmt::format("{} at {:.0f} Gop/s", bytes ? "int8 dots" : "f32 multiply-adds",
                             at.limit / 1e9);
    row.other = load.rows_each * at.limit / operations;
    row.unit = "tokens/s";
    append(options, *engines, which, load.rows_each / (*measured)[i - which].step_seconds,
           std::move(row), rows);
  }
  return {};
}

}  // namespace

Result<Rows> bench_decode(const BenchOptions& options) {
  Rows rows;
  model::BandwidthProbe probe(options.threads);
  for (const std::string& shape : options.shapes) {
    for (const Precision precision : options.precisions) {
      const Waiting waiting("decode, " + shape + " " + std::string(name(precision)));
      const Result<void> done = append_decode(options, shape, precision, probe, rows);
      if (!done) return done.error();
    }
  }
  return rows;
}

Result<Rows> bench_prefill(const BenchOptions& options) {
  Rows rows;
  for (const std::string& shape : options.shapes) {
    for (const Precision precision : options.precisions) {
      const Waiting waiting("prefill, " + shape + " " + std::string(name(precision)));
      const Result<void> done = append_prefill(options, shape, precision, rows);
      if (!done) return done.error();
    }
  }
  return rows;
}

}  // namespace farmesh::cli
