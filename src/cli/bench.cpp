#include "cli/bench.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/thread.hpp"
#include "cli/child_process.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/json.hpp"
#include "cli/rival.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "model/synth.hpp"
#include "node/cache_folder.hpp"

namespace farmesh::cli {
namespace {

struct Benchmark {
  const char* name;
  Result<Rows> (*run)(const BenchOptions&);
};
constexpr Benchmark kBenchmarks[] = {
    {"decode", bench_decode}, {"prefill", bench_prefill}, {"kernels", bench_kernels},
    {"hop", bench_hop},       {"chain", bench_chain},     {"batch", bench_batch},
    {"load", bench_load},     {"wan", bench_wan},         {"gateway", bench_gateway}};

struct BenchFlags {
  BenchOptions options;
  std::vector<std::string> names;
  bool json = false;
};

// In a build tree beside the builds, so that removing build/ removes them; else the cache.
std::filesystem::path model_store() {
  const auto build = std::filesystem::path(own_program()).parent_path().parent_path();
  if (std::filesystem::exists(build / "CMakeCache.txt")) return build.parent_path() / "bench";
  return node::cache_folder() / "bench";
}

void print_heading(const BenchOptions& options) {
  std::string cpu = "unknown CPU";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      cpu = line.substr(line.find(':') + 2);
      break;
    }
  }
  fmt::print("{}, {} cores, {} threads a process; medians of {} rounds\n\n", cpu, available_cores(),
             options.threads, options.rounds);
  fmt::print("{:<7} {:<6} {:<32} {:>9}  {:<26} {:>9} {:<9} {:>6}  ", "bench", "shape", "what", "",
             "beside", "", "unit", "ratio");
  for (const Rival& rival : options.rivals) fmt::print("{:>16}  ", rival.name + " (ratio)");
  fmt::print("bound\n");
}

/// `rivals`: columns that the table has for them.
void print_row(const BenchRow& row, std::size_t rivals) {
  const Palette palette(STDOUT_FILENO);
  const bool compared = !row.beside.empty();
  fmt::print("{:<7} {:<6} {:<32} {:>9.2f}  {:<26} {:>9} {:<9} {:>6}  ", row.bench, row.shape,
             row.what, row.value, row.beside, compared ? fmt::format("{:.2f}", row.other) : "",
             row.unit, compared ? fmt::format("{:.2f}", row.ratio()) : "");
  for (std::size_t i = 0; i < rivals; ++i) {
    std::string figure;
    if (i < row.rivals.size()) {
      const double value = row.rivals[i].value;
      figure = fmt::format("{:.2f} ({:.2f})", value, row.value / value);
    }
    fmt::print("{:>16}  ", figure);
  }
  fmt::print("{}{}{}\n", row.held ? "" : palette.red,
             row.bound.empty() ? "" : row.bound + (row.held ? ": held" : ": MISSED"),
             palette.reset);
  std::fflush(stdout);
}

nlohmann::ordered_json json_of(const BenchRow& row) {
  nlohmann::ordered_json object{{"bench", row.bench}, {"shape", row.shape},   {"what", row.what},
                                {"value", row.value}, {"beside", row.beside}, {"other", row.other},
                                {"unit", row.unit},   {"ratio", row.ratio()}, {"bound", row.bound},
                                {"held", row.held}};
  if (!row.rivals.empty()) object["rivals"] = nlohmann::ordered_json::object();
  for (const RivalFigure& rival : row.rivals) object["rivals"][rival.name] = rival.value;
  return object;
}

int bench(BenchFlags flags) {
  BenchOptions& options = flags.options;
  if (options.threads == 0) options.threads = available_cores();
  if (options.folder.empty()) options.folder = model_store();
  if (!flags.json) print_heading(options);
  bool held = true;
  for (const Benchmark& benchmark : kBenchmarks) {
    const auto asked = std::find(flags.names.begin(), flags.names.end(), benchmark.name);
    if (!flags.names.empty() && asked == flags.names.end()) continue;
    const Result<Rows> rows = benchmark.run(options);
    if (!rows) return report(rows.error());
    for (const BenchRow& row : *rows) {
      held = held && row.held;
      if (flags.json) {
        fmt::print("{}", to_line(json_of(row)));
      } else {
        print_row(row, options.rivals.size());
      }
    }
  }
  return held ? kSuccess : kFailure;
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Result<ScratchFolder> ScratchFolder::make(const std::string& parent) {
  std::error_code failure;
  std::filesystem::create_directories(parent, failure);
  std::string path = parent + "/scratch-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return {Errc::io_error, "cannot make a folder in " + parent};
  }
  return ScratchFolder(std::move(path));
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<std::string> synthetic_model(const BenchOptions& options, const std::string& shape) {
  const std::filesystem::path folder = std::filesystem::path(options.folder) / shape;
  if (std::filesystem::exists(folder / "config.json")) return folder.string();  // written last
  ProgressBar bar("writing a " + shape + " model of random weights");
  model::SynthOptions synth;
  synth.shape = shape;
  synth.on_progress = [&bar](std::uint64_t done, std::uint64_t all) { bar.update(done, all); };
  const Result<void> written = model::write_synthetic_model(folder, synth);
  if (!written) return written.error();
  return folder.string();
}

Result<double> decode_speed(const DistributedModel& model, std::uint32_t tokens) {
  Result<Session> session = model.open_session();
  if (!session) return session.error();
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = 0;
  options.ignore_eos = true;
  TokenStream stream = session->generate_ids({1, 2, 3, 4, 5, 6, 7, 8}, options);
  for (const Token& token : stream) (void)token;
  if (const std::optional<Error> error = stream.error()) return *error;
  return stream.usage().tokens_per_second;
}

namespace {

// Of those that run an engine.
void add_engine_flags(CLI::App& verb, BenchOptions& options) {
  const auto names = [&verb](const char* flag, auto& values, auto parse,
                             const std::vector<std::string>& known, const char* help) {
    verb.add_option_function<std::vector<std::string>>(
            flag,
            [&values, parse](const std::vector<std::string>& texts) {
              values.clear();
              for (const std::string& text : texts) values.push_back(parse(text));
            },
            help)
        ->check(CLI::IsMember(known))
        ->allow_extra_args(false)
        ->option_text("NAME");
  };
  names("--precision", options.precisions, precision_of, {"f32", "bf16", "int8", "int4"},
        "f32, bf16, int8 or int4; repeatable; default: the last three, bf16 for chain and batch");
  names("--kv", options.kvs, kv_format_of, {"f32", "bf16", "int8"},
        "KV cache of decode and prefill, in turns; repeatable; default: f32 for f32, else bf16");
  const auto numbers = [&verb](const char* flag, std::vector<std::uint32_t>& values,
                               const char* help, std::uint32_t least, std::uint32_t most) {
    verb.add_option(flag, values, help)
        ->check(CLI::Range(least, most))
        ->allow_extra_args(false)
        ->option_text("N");
  };
  numbers("--sessions", options.sessions,
          "At once; repeatable; default: 1, 8 and 32 for decode, 8, 16 and 32 for batch", 1, 256);
  numbers("--tokens", options.prompts, "Of prefill: in the prompt; repeatable; default: 512", 2,
          8'192);
  numbers("--context", options.contexts,
          "Tokens in the cache before; repeatable; default: 0, and 4096 for decode of one session",
          0, 65'536);
}

void add_rival_flags(CLI::App& verb, BenchOptions& options) {
  verb.add_option_function<std::vector<std::string>>(
          "--rival",
          [&options](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) options.rivals.push_back(*parse_rival(text));
          },
          "Another engine's batched benchmark, run in turns with ours; repeatable")
      ->check(CLI::Validator(
          [](const std::string& text) {
            const Result<Rival> rival = parse_rival(text);
            return rival ? "" : rival.error().detail;
          },
          ""))
      ->allow_extra_args(false)
      ->option_text("NAME=PROGRAM[ ARG…]");
  verb.add_option("--rival-models", options.rival_models,
                  "Folder of rivals' weights, SHAPE.PRECISION.gguf; default: that of --dir")
      ->option_text("DIR");
}

}  // namespace

void add_bench(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<BenchFlags>();
  CLI::App* verb = program.add_subcommand("bench", "Measure this build on this machine");
  verb->add_option("names", flags->names,
                   "decode, prefill, kernels, hop, chain, batch, load, wan, gateway; default: all")
      ->check(CLI::IsMember(
          {"decode", "prefill", "kernels", "hop", "chain", "batch", "load", "wan", "gateway"}))
      ->option_text("NAME…");
  verb->add_option("--shape", flags->options.shapes,
                   "1.1b, 160m or 7b; repeatable; default: the first two")
      ->check(CLI::IsMember({"160m", "1.1b", "7b"}))
      ->allow_extra_args(false)
      ->option_text("NAME");
  verb->add_option("--threads", flags->options.threads, "Of each process; default: every core")
      ->check(CLI::Range(0, 1'024))
      ->option_text("N");
  add_option_with_default(*verb, "--rounds", flags->options.rounds, "Figures behind each median",
                          "N")
      ->check(CLI::Range(1, 1'000));
  verb->add_option("--dir", flags->options.folder, "Where models of random weights are kept")
      ->option_text("DIR");
  add_engine_flags(*verb, flags->options);
  add_rival_flags(*verb, flags->options);
  verb->add_flag("--json", flags->json, "Each row as a line of JSON");
  verb->footer(R"(
  decode   steps of one token, beside the memory bandwidth of the same run
  prefill  a prompt in one pass, beside the arithmetic of the same run
  kernels  single products and attention, beside both limits
  hop      an 8 KiB activation through an empty peer, beside a bare TCP ping-pong
  chain    three peers on loopback, beside the same model in one process
  batch    many sessions at once, beside one
  load     a node's largest memory, beside its tensors' bytes
  wan      tokens and recovery over long links, in virtual time
  gateway  the coordinator: CPU of a token beside a bare Beast echo, streams, the ledger

Exits with 1 when a bound is missed. docs/performance.md tells how to read it.)");
  verb->callback([flags, &run] { run = [flags] { return bench(*flags); }; });
}

}  // namespace farmesh::cli
