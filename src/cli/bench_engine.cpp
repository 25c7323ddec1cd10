// farmesh bench decode, prefill: one engine without sockets, beside what this machine's memory and
// arithmetic give in the same run.
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <farmesh/numerics.hpp>

#include "cli/bench.hpp"
#include "cli/rival.hpp"
#include "cli/terminal.hpp"
#include "model/engine_load.hpp"
#include "model/engine_loader.hpp"
#include "model/machine_probe.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

using model::LoadShape;

constexpr double kLeastSeconds = 0.5;  // of steps in each round
// What a rival's run is, whose first token pays for what ours paid before: long enough for that not
// to count.
constexpr std::uint32_t kRivalPrompt = 32;
constexpr std::uint32_t kRivalTokens = 64;
constexpr std::uint32_t kFastRows = 128;
// Of the faster of the rivals.
constexpr double kDecodeFloor = 1.0;
constexpr double kManySessionsFloor = 1.1;
constexpr double kPrefillFloor = 0.9;

/// How an engine may differ from another of the same weights and precision.
struct Variant {
  KvFormat kv;
  Numerics numerics = Numerics::exact;
};

struct WholeEngine {
  model::ModelConfig config;
  Variant variant;
  std::unique_ptr<model::StageEngine> engine;
};

std::vector<Variant> variants_asked(const BenchOptions& options, Precision precision) {
  std::vector<Variant> variants;
  for (const KvFormat kv : asked_or(options.kvs, {model::usual_kv(precision)})) {
    variants.push_back({kv});
  }
  return variants;
}

/// A synthetic model, all of it, with pages for the largest of `shapes`: one engine for each of
/// `variants`.
Result<std::vector<WholeEngine>> open_engines(const BenchOptions& options, const std::string& shape,
                                              Precision precision,
                                              const std::vector<LoadShape>& shapes,
                                              const std::vector<Variant>& variants) {
  const Result<std::string> path = synthetic_model(options, shape);
  if (!path) return path.error();
  const auto folder = model::ModelFolder::open(*path);
  if (!folder) return folder.error();
  std::vector<WholeEngine> engines;
  for (const Variant& variant : variants) {
    model::EngineOptions engine_options;
    engine_options.blocks = {0, (*folder)->config().num_layers};
    engine_options.head = true;
    engine_options.precision = precision;
    engine_options.kv = variant.kv;
    engine_options.numerics = variant.numerics;
    engine_options.threads = options.threads;
    auto engine = model::load_engine((*folder)->config(), **folder, engine_options);
    if (!engine) return engine.error();
    std::uint32_t pages = 1;
    for (const LoadShape& load : shapes) {
      pages = std::max(pages, load.sessions * load.pages_each((*engine)->info().page_tokens));
    }
    if (Result<void> reserved = (*engine)->reserve_pages(pages); !reserved) return reserved.error();
    engines.push_back({(*folder)->config(), variant, *std::move(engine)});
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

/// Runs the rivals under a load once; nothing where there are none.
using RunRivals = std::function<Result<void>(std::size_t load)>;

/// One for each engine under each load, engines and rivals in turns: [load * engines + engine].
Result<std::vector<Measured>> measure(const BenchOptions& options,
                                      const std::vector<WholeEngine>& engines,
                                      const std::vector<LoadShape>& shapes,
                                      const std::function<double()>& probe,
                                      const RunRivals& run_rivals) {
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
      if ((i + 1) % engines.size() != 0) continue;
      if (Result<void> ran = run_rivals(i / engines.size()); !ran) return ran.error();
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
/// one that stands beside the first's, taken in the same turns. Rivals stand beside the first.
void append(const BenchOptions& options, const std::vector<WholeEngine>& engines, std::size_t which,
            double first, BenchRow row, Rows& rows) {
  if (!options.kvs.empty()) row.what += fmt::format(", {} kv", name(engines[which].variant.kv));
  rows.push_back(row);
  if (which == 0) return;
  row.beside = fmt::format("{} kv", name(engines[0].variant.kv));
  row.other = first;
  rows.push_back(std::move(row));
}

/// What one order of every sum costs: the same beside libtorch's own products, where it has some. A
/// prompt is cut to a size at which those take seconds, not a minute.
Result<void> append_beside_fast(const BenchOptions& options, const std::string& bench,
                                const std::string& shape, Precision precision, LoadShape load,
                                Rows& rows) {
  load.rows_each = std::min(load.rows_each, kFastRows);
  if (precision != Precision::f32 && precision != Precision::bf16) return {};
  const KvFormat kv = model::usual_kv(precision);
  const auto engines = open_engines(options, shape, precision, {load},
                                    {{kv, Numerics::exact}, {kv, Numerics::fast}});
  if (!engines) return engines.error();
  const auto measured = measure(
      options, *engines, {load}, [] { return 0.0; }, [](std::size_t) { return Result<void>(); });
  if (!measured) return measured.error();
  const double tokens = load.sessions * load.rows_each;
  BenchRow row{bench, shape, named(precision, load)};
  row.value = tokens / (*measured)[0].step_seconds;
  row.beside = "--numerics fast";
  row.other = tokens / (*measured)[1].step_seconds;
  row.unit = "tokens/s";
  rows.push_back(std::move(row));
  return {};
}

/// Of decode: what was asked for, or one session, many, and one with a long past.
std::vector<LoadShape> decode_loads(const BenchOptions& options) {
  if (options.contexts.empty() && options.sessions.empty()) {
    return {{1, 1, 0}, {8, 1, 0}, {32, 1, 0}, {1, 1, 4'096}};
  }
  std::vector<LoadShape> loads;
  for (const std::uint32_t context : asked_or(options.contexts, {0})) {
    for (const std::uint32_t sessions : asked_or(options.sessions, {1})) {
      loads.push_back({sessions, 1, context});
    }
  }
  return loads;
}

/// One for each load.
std::vector<RivalColumns> rivals_of(const BenchOptions& options, const std::string& shape,
                                    Precision precision, std::size_t loads) {
  return std::vector<RivalColumns>(loads, RivalColumns(options, shape, precision));
}

Result<void> append_decode(const BenchOptions& options, const std::string& shape,
                           Precision precision, model::BandwidthProbe& probe, Rows& rows) {
  const std::vector<LoadShape> loads = decode_loads(options);
  const auto engines =
      open_engines(options, shape, precision, loads, variants_asked(options, precision));
  if (!engines) return engines.error();
  std::vector<RivalColumns> rivals = rivals_of(options, shape, precision, loads.size());
  const auto run_rivals = [&](std::size_t i) {
    const std::uint32_t prompt = std::max(loads[i].context, kRivalPrompt);
    return rivals[i].take({loads[i].sessions, prompt, kRivalTokens}, &RivalSpeed::decode);
  };
  const auto measured = measure(
      options, *engines, loads, [&] { return probe.measure(); }, run_rivals);
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
    if (which == 0) {
      rivals[i / engines->size()].append_to(row,
                                            load.sessions == 1 ? kDecodeFloor : kManySessionsFloor);
    }
    append(options, *engines, which, load.sessions / (*measured)[i - which].step_seconds,
           std::move(row), rows);
  }
  return append_beside_fast(options, "decode", shape, precision, loads.front(), rows);
}

Result<void> append_prefill(const BenchOptions& options, const std::string& shape,
                            Precision precision, Rows& rows) {
  std::vector<LoadShape> loads;
  for (const std::uint32_t context : asked_or(options.contexts, {0})) {
    for (const std::uint32_t tokens : asked_or(options.prompts, {512})) {
      loads.push_back({1, tokens, context});
    }
  }
  const auto engines =
      open_engines(options, shape, precision, loads, variants_asked(options, precision));
  if (!engines) return engines.error();
  std::vector<RivalColumns> rivals = rivals_of(options, shape, precision, loads.size());
  const auto run_rivals = [&](std::size_t i) {
    // Theirs begins with an empty cache.
    if (loads[i].context > 0) return Result<void>();
    return rivals[i].take({1, loads[i].rows_each, 1}, &RivalSpeed::prefill);
  };
  model::ArithmeticLimit limit;
  const auto probe = [&] {
    limit = model::measure_arithmetic(options.threads).limit_of(precision);
    return limit.rate;
  };
  const auto measured = measure(options, *engines, loads, probe, run_rivals);
  if (!measured) return measured.error();
  for (std::size_t i = 0; i < measured->size(); ++i) {
    const std::size_t which = i % engines->size();
    const LoadShape& load = loads[i / engines->size()];
    const double operations = model::step_operations((*engines)[which].config, load);
    const Measured& at = (*measured)[i];
    BenchRow row{"prefill", shape, named(precision, load)};
    row.value = load.rows_each / at.step_seconds;
    row.beside = fmt::format("{} at {:.0f} Gop/s", limit.name, at.limit / 1e9);
    row.other = load.rows_each * at.limit / operations;
    row.unit = "tokens/s";
    if (which == 0) rivals[i / engines->size()].append_to(row, kPrefillFloor);
    append(options, *engines, which, load.rows_each / (*measured)[i - which].step_seconds,
           std::move(row), rows);
  }
  return append_beside_fast(options, "prefill", shape, precision, loads.front(), rows);
}

/// Of all verbs here, unless others are asked for.
std::vector<Precision> precisions_of(const BenchOptions& options) {
  return asked_or(options.precisions, {Precision::bf16, Precision::int8, Precision::int4});
}

}  // namespace

Result<Rows> bench_decode(const BenchOptions& options) {
  Rows rows;
  model::BandwidthProbe probe(options.threads);
  for (const std::string& shape : options.shapes) {
    for (const Precision precision : precisions_of(options)) {
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
    for (const Precision precision : precisions_of(options)) {
      const Waiting waiting("prefill, " + shape + " " + std::string(name(precision)));
      const Result<void> done = append_prefill(options, shape, precision, rows);
      if (!done) return done.error();
    }
  }
  return rows;
}

}  // namespace farmesh::cli
