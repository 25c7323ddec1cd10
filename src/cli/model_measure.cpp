#include "cli/model_measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/terminal.hpp"
#include "model/engine_loader.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "node/cache_folder.hpp"
#include "text/tokenizer.hpp"
#include "wire/row_codec.hpp"

namespace farmesh::cli {
namespace {

struct MatrixReport {
  std::string name;  // "layers.0.self_attn: q_proj k_proj v_proj"
  std::uint64_t bytes = 0;
  model::WeightError error;
};

/// "model.layers.0.self_attn.q_proj.weight", … of one matrix as one name.
std::string joined(const std::vector<std::string>& tensors) {
  std::string all;
  for (std::string name : tensors) {
    if (name.starts_with("model.")) name.erase(0, 6);
    if (name.ends_with(".weight")) name.resize(name.size() - 7);
    const std::size_t dot = name.rfind('.');
    if (all.empty()) {
      all = dot == std::string::npos ? name : name.substr(0, dot) + ": " + name.substr(dot + 1);
    } else {
      all += " " + name.substr(dot == std::string::npos ? 0 : dot + 1);
    }
  }
  return all;
}

Result<std::unique_ptr<model::StageEngine>> load_whole(const model::ModelFolder& folder,
                                                       model::EngineOptions options) {
  options.blocks = {0, folder.config().num_layers};
  options.head = true;
  ProgressBar bar("loading");
  options.on_progress = [&bar](std::uint64_t done, std::uint64_t all) { bar.update(done, all); };
  return model::load_engine(folder.config(), folder, options);
}

void print_report(const MatrixReport& matrix, bool json) {
  if (json) {
    fmt::print("{}", to_line({{"matrix", matrix.name},
                              {"bytes", matrix.bytes},
                              {"rms_error", matrix.error.rms},
                              {"worst_error", matrix.error.worst}}));
    return;
  }
  fmt::print("{:<52} {:>9} {:>8.3f} % {:>8.3f}\n", matrix.name, human_bytes(matrix.bytes),
             100.0 * matrix.error.rms, matrix.error.worst);
}

/// How hidden states get through the layers.
struct Journey {
  Activations activations = Activations::residual;
  std::uint32_t stages = 1;  // of about as many layers each

  std::string text() const {
    if (activations == Activations::residual) return {};
    return fmt::format(", {} rows through {} stage{}", name(activations), stages,
                       stages == 1 ? "" : "s");
  }
};

/// Makes `rows` what they are after they have travelled.
Result<void> travel(std::vector<std::byte>& rows, std::uint32_t columns, DType residual,
                    const Journey& journey) {
  if (journey.activations == Activations::residual) return {};
  const Result<Payload> packed = wire::pack_rows(rows, columns, residual);
  if (!packed) return packed.error();
  const auto count = static_cast<std::uint32_t>(packed->size() / wire::packed_row_bytes(columns));
  const Result<Payload> arrived = wire::unpack_rows(packed->view(), count, columns, residual);
  if (!arrived) return arrived.error();
  std::copy(arrived->view().begin(), arrived->view().end(), rows.begin());
  return {};
}

/// Sum of -log p of `ids` after the first, each given those before it.
Result<double> surprise(model::StageEngine& engine, const model::ModelConfig& config,
                        std::span<const TokenId> ids, const Journey& journey) {
  const std::size_t row_bytes = config.hidden_size * bytes_of(engine.info().residual);
  std::vector<std::uint32_t> pages((ids.size() + engine.info().page_tokens - 1) /
                                   engine.info().page_tokens);
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<std::byte> in(ids.size() * row_bytes);
  std::vector<std::byte> out(in.size());
  if (Result<void> done = engine.embed(ids, in); !done) return done.error();
  const DType residual = engine.info().residual;
  for (std::uint32_t stage = 0; stage < journey.stages; ++stage) {
    const Span blocks{config.num_layers * stage / journey.stages,
                      config.num_layers * (stage + 1) / journey.stages};
    Result<void> done = travel(in, config.hidden_size, residual, journey);
    const model::SequenceRows rows{pages, 0, static_cast<std::uint32_t>(ids.size()), in, out};
    if (done) done = engine.forward(blocks, {&rows, 1});
    if (!done) return done.error();
    in.swap(out);
  }
  if (Result<void> done = travel(in, config.hidden_size, residual, journey); !done) {
    return done.error();
  }
  double sum = 0.0;
  std::vector<float> logits(config.vocab_size);
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    const ByteView row = ByteView(in).subspan(i * row_bytes, row_bytes);
    if (Result<void> done = engine.logits(row, 1, logits); !done) return done.error();
    double top = logits[0];
    for (const float logit : logits) top = std::max(top, double{logit});
    double all = 0.0;
    for (const float logit : logits) all += std::exp(logit - top);
    sum += top + std::log(all) - logits[ids[i + 1]];
  }
  return sum;
}

}  // namespace

int quantize_model(const MeasureFlags& flags) {
  const auto folder = model::ModelFolder::open(flags.folder);
  if (!folder) return report(folder.error());
  std::vector<MatrixReport> matrices;
  model::EngineOptions options;
  options.precision = flags.precision;
  options.threads = flags.threads;
  if (flags.report) {
    options.on_quantised = [&](const std::vector<std::string>& tensors, std::uint64_t bytes,
                               const model::WeightError& error) {
      matrices.push_back({joined(tensors), bytes, error});
    };
  }
  const Result<ModelHash> hash = model::model_hash(flags.folder, node::hash_cache_file());
  if (!hash) return report(hash.error());
  if (flags.keep) {
    options.packed = {model::packed_folder(flags.folder, flags.precision), *hash, true};
  }
  const auto began = std::chrono::steady_clock::now();
  const auto engine = load_whole(**folder, options);
  if (!engine) return report(engine.error());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;

  double error = 0.0;
  double bytes = 0.0;
  if (flags.report && !flags.json) {
    fmt::print("{:<52} {:>9} {:>10} {:>8}\n", "matrix", "in memory", "rms error", "largest");
  }
  for (const MatrixReport& matrix : matrices) {
    print_report(matrix, flags.json);
    error += matrix.error.rms * matrix.error.rms * static_cast<double>(matrix.bytes);
    bytes += static_cast<double>(matrix.bytes);
  }
  const double mean = bytes == 0.0 ? 0.0 : std::sqrt(error / bytes);
  const std::uint64_t resident = (*engine)->info().weight_bytes;
  if (flags.json) {
    nlohmann::ordered_json all{
        {"precision", name(flags.precision)}, {"bytes", resident}, {"seconds", took.count()}};
    if (flags.report) all["rms_error"] = mean;
    fmt::print("{}", to_line(all));
  } else {
    fmt::print("{}: {} in memory, made in {:.1f} s", name(flags.precision), human_bytes(resident),
               took.count());
    if (flags.report) fmt::print(", rms error {:.3f} % of the weights", 100.0 * mean);
    fmt::print("\n");
  }
  return kSuccess;
}

int measure_perplexity(const MeasureFlags& flags) {
  const auto folder = model::ModelFolder::open(flags.folder);
  if (!folder) return report(folder.error());
  const auto tokenizer = text::load_tokenizer(flags.folder);
  if (!tokenizer) return report(tokenizer.error());
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  const Result<std::vector<TokenId>> ids = (*tokenizer)->encode(text, {});
  if (!ids) return report(ids.error());
  if (ids->size() < 2) return report({Errc::invalid_argument, "a text of two tokens or more"});

  model::EngineOptions options;
  options.precision = flags.precision;
  options.kv = flags.kv;
  options.numerics = flags.numerics;
  options.device = flags.device;
  options.threads = flags.threads;
  const auto engine = load_whole(**folder, options);
  if (!engine) return report(engine.error());
  const model::ModelConfig& config = (*folder)->config();
  const Journey journey{flags.activations, std::min(flags.stages, config.num_layers)};
  // Windows of the trained context, each begun anew.
  const std::size_t window = std::min<std::size_t>(config.max_position, 2'048);
  const auto pages = static_cast<std::uint32_t>(window / (*engine)->info().page_tokens + 1);
  if (Result<void> reserved = (*engine)->reserve_pages(pages); !reserved) {
    return report(reserved.error());
  }
  double sum = 0.0;
  std::size_t foreseen = 0;
  for (std::size_t at = 0; at + 1 < ids->size(); at += window) {
    const auto part = std::span(*ids).subspan(at, std::min(window, ids->size() - at));
    const Result<double> bits = surprise(**engine, config, part, journey);
    if (!bits) return report(bits.error());
    sum += *bits;
    foreseen += part.size() - 1;
  }
  const double perplexity = std::exp(sum / static_cast<double>(foreseen));
  const KvFormat kv = flags.kv.value_or(model::usual_kv(flags.precision));
  const Numerics numerics = flags.numerics.value_or(model::usual_numerics(flags.device));
  if (flags.json) {
    fmt::print("{}", to_line({{"precision", name(flags.precision)},
                              {"kv", name(kv)},
                              {"numerics", name(numerics)},
                              {"activations", name(flags.activations)},
                              {"stages", journey.stages},
                              {"tokens", foreseen},
                              {"perplexity", perplexity}}));
  } else {
    fmt::print("{}, {} cache, {} numerics{}: perplexity {:.4f} over {} tokens\n",
               name(flags.precision), name(kv), name(numerics), journey.text(), perplexity,
               foreseen);
  }
  return kSuccess;
}

}  // namespace farmesh::cli
