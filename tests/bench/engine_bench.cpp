// How fast one engine computes, beside what this machine's memory gives in the same run.
//
// Needs nothing but libfarmesh_torch.so beside it or in FARMESH_TORCH_LIBRARY: weights are made up
// tensor by tensor. Prints medians of interleaved rounds; run it on an otherwise idle machine.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <dlfcn.h>

#include "kernels/huge_buffer.hpp"
#include "model/engine_loader.hpp"

namespace {

using namespace farmesh;         // NOLINT: a program of one file
using namespace farmesh::model;  // NOLINT
using Seconds = std::chrono::duration<double>;

struct Settings {
  std::string shape = "1.1b";
  Precision precision = Precision::bf16;
  Numerics numerics = Numerics::exact;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  std::uint32_t context = 0;  // tokens already in the cache of every session
  int rounds = 5;
  std::vector<std::uint32_t> sessions{1, 4, 16, 32};
  std::vector<std::uint32_t> prompts{128, 512};
};

ModelConfig config_of(const std::string& shape) {
  ModelConfig c;
  c.vocab_size = 32000;
  c.max_position = 1 << 17;
  const auto set = [&](std::uint32_t hidden, std::uint32_t layers, std::uint32_t heads,
                       std::uint32_t kv_heads, std::uint32_t intermediate) {
    c.hidden_size = hidden;
    c.num_layers = layers;
    c.num_heads = heads;
    c.num_kv_heads = kv_heads;
    c.intermediate_size = intermediate;
    c.head_dim = hidden / heads;
  };
  if (shape == "160m") {
    set(768, 12, 12, 12, 3072);
  } else if (shape == "1.1b") {
    set(2048, 22, 32, 4, 5632);
  } else if (shape == "7b") {
    set(4096, 32, 32, 32, 11008);
  } else {
    std::fprintf(stderr, "bench_engine: shapes are 160m, 1.1b and 7b\n");
    std::exit(2);
  }
  return c;
}

/// Makes a tensor up when it is asked for and forgets it when it is released.
class MadeUpWeights final : public WeightSource {
 public:
  explicit MadeUpWeights(const ModelConfig& config) {
    for (TensorSpec& spec : required_tensors(config, {0, config.num_layers}, true)) {
      shapes_.emplace(std::move(spec.name), std::move(spec.shape));
    }
  }

  Result<TensorView> find(std::string_view name) const override {
    const auto shape = shapes_.find(std::string(name));
    if (shape == shapes_.end()) return {Errc::config_mismatch, std::string(name)};
    std::uint64_t count = 1;
    for (const std::uint64_t size : shape->second) count *= size;
    std::vector<std::uint16_t> values(count);
    std::uint64_t state = count;
    for (std::uint16_t& value : values) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      // Sign and seven bits of mantissa at random, an exponent of 2^-6: about 1/sqrt(in).
      value = static_cast<std::uint16_t>((state >> 48 & 0x807f) | 121U << 7);
    }
    const std::lock_guard lock(mutex_);
    std::vector<std::uint16_t>& kept = made_[std::string(name)] = std::move(values);
    return TensorView{DType::bf16, shape->second, std::as_bytes(std::span(kept))};
  }

  void release(std::string_view name) const override {
    const std::lock_guard lock(mutex_);
    made_.erase(std::string(name));
  }

 private:
  std::map<std::string, std::vector<std::uint64_t>> shapes_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::vector<std::uint16_t>> made_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class Body>
double seconds(const Body& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return Seconds(std::chrono::steady_clock::now() - begin).count();
}

/// Reads 1 GiB, each thread its own part as four streams, as a product reads four panels: bytes a
/// second.
class BandwidthProbe {
 public:
  explicit BandwidthProbe(int threads) : threads_(threads), memory_(1ULL << 30) {
    std::memset(memory_.data(), 1, memory_.size());
  }

  double measure() {
    const double time = seconds([&] {
      std::vector<std::thread> readers;
      for (int i = 0; i < threads_; ++i) readers.emplace_back([this, i] { read(i); });
      for (std::thread& reader : readers) reader.join();
    });
    return static_cast<double>(memory_.size()) / time;
  }

 private:
  using Line = std::uint64_t __attribute__((vector_size(64)));
  static constexpr std::uint64_t kStreams = 4;
  static constexpr std::uint64_t kAhead = 32;  // lines

  void read(int part) {
    const std::uint64_t lines =
        memory_.size() / sizeof(Line) / kStreams / static_cast<std::uint64_t>(threads_);
    const auto* at = reinterpret_cast<const Line*>(memory_.data()) +
                     lines * kStreams * static_cast<std::uint64_t>(part);
    Line sums[kStreams] = {};
    for (std::uint64_t i = 0; i < lines; ++i) {
      for (std::uint64_t s = 0; s < kStreams; ++s) {
        __builtin_prefetch(at + s * lines + i + kAhead);
        sums[s] += at[s * lines + i];
      }
    }
    const Line all = sums[0] + sums[1] + sums[2] + sums[3];
    sink_ += all[0] ^ all[7];
  }

  int threads_;
  kernels::HugeBuffer memory_;
  std::atomic<std::uint64_t> sink_{0};
};

std::unique_ptr<StageEngine> open_engine(const ModelConfig& config, const Settings& settings) {
  for (const char* key : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}) ::setenv(key, "1", 0);
  const char* named = std::getenv("FARMESH_TORCH_LIBRARY");
  const std::string path =
      named != nullptr
          ? named
          : std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libfarmesh_torch.so";
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "bench_engine: %s\n", ::dlerror());
    std::exit(1);
  }
  const auto factory = reinterpret_cast<EngineFactory>(::dlsym(library, kEngineSymbol));
  EngineOptions options;
  options.blocks = {0, config.num_layers};
  options.head = true;
  options.precision = settings.precision;
  options.numerics = settings.numerics;
  options.threads = settings.threads;
  const MadeUpWeights weights(config);
  Error error;
  std::unique_ptr<StageEngine> engine;
  const double time =
      seconds([&] { engine.reset(factory(kEngineAbi, &config, &weights, &options, &error)); });
  if (engine == nullptr) {
    std::fprintf(stderr, "bench_engine: %s\n", error.detail.c_str());
    std::exit(1);
  }
  std::printf("%s %s, %s, %d threads: %.2f GB of weights made up and packed in %.1f s\n",
              settings.shape.c_str(), std::string(name(settings.precision)).c_str(),
              engine->info().numerics_class.c_str(), settings.threads,
              static_cast<double>(engine->info().weight_bytes) / 1e9, time);
  return engine;
}

/// One forward pass with logits of each session's last row.
class Load {
 public:
  Load(StageEngine& engine, const ModelConfig& config, std::uint32_t sessions,
       std::uint32_t rows_each, std::uint32_t position)
      : engine_(engine), sessions_(sessions) {
    const std::uint32_t rows = sessions * rows_each;
    const std::size_t row_bytes = config.hidden_size * bytes_of(engine.info().residual);
    ids_.resize(rows);
    std::iota(ids_.begin(), ids_.end(), 5);
    in_.resize(rows * row_bytes);
    out_.resize(in_.size());
    logits_.resize(std::size_t{sessions} * config.vocab_size);
    last_.resize(sessions * row_bytes);
    const std::uint32_t pages = pages_of(rows_each, position);
    pages_.resize(std::size_t{sessions} * pages);
    std::iota(pages_.begin(), pages_.end(), 0);
    for (std::uint32_t s = 0; s < sessions; ++s) {
      const std::size_t at = row_bytes * rows_each * s;
      const std::size_t bytes = rows_each * row_bytes;
      batch_.push_back({std::span(pages_).subspan(std::size_t{s} * pages, pages), position,
                        rows_each, ByteView(in_).subspan(at, bytes),
                        MutableByteView(out_).subspan(at, bytes)});
    }
  }

  static std::uint32_t pages_of(std::uint32_t rows_each, std::uint32_t position) {
    return (position + rows_each + 15) / 16;
  }

  double run() {
    return seconds([&] {
      bool ok = bool(engine_.embed(ids_, in_));
      ok = ok && engine_.forward(engine_.info().blocks, batch_);
      const std::size_t row = last_.size() / sessions_;
      for (std::uint32_t s = 0; s < sessions_; ++s) {
        std::memcpy(last_.data() + s * row, batch_[s].output.last(row).data(), row);
      }
      ok = ok && engine_.logits(last_, sessions_, logits_);
      if (!ok || !std::isfinite(logits_[0])) {
        std::fprintf(stderr, "bench_engine: the engine failed\n");
        std::exit(1);
      }
    });
  }

 private:
  StageEngine& engine_;
  std::uint32_t sessions_;
  std::vector<TokenId> ids_;
  std::vector<std::byte> in_, out_, last_;
  std::vector<float> logits_;
  std::vector<std::uint32_t> pages_;
  std::vector<SequenceRows> batch_;
};

/// Bytes one decode step reads: all weights but the embedding table, and every session's cache.
double step_bytes(const StageEngine& engine, const ModelConfig& c, const Settings& settings,
                  std::uint32_t sessions) {
  const double size = settings.precision == Precision::f32 ? 4 : 2;
  const double embedding = static_cast<double>(c.vocab_size) * c.hidden_size * size;
  const double cache = static_cast<double>(engine.info().page_bytes) * settings.context / 16;
  return static_cast<double>(engine.info().weight_bytes) - embedding + cache * sessions;
}

void bench(const Settings& settings) {
  const ModelConfig config = config_of(settings.shape);
  const auto engine = open_engine(config, settings);
  const std::uint32_t most_sessions =
      settings.sessions.empty()
          ? 1
          : *std::max_element(settings.sessions.begin(), settings.sessions.end());
  std::uint32_t pages = most_sessions * Load::pages_of(1, settings.context);
  for (const std::uint32_t rows : settings.prompts) {
    pages = std::max(pages, Load::pages_of(rows, settings.context));
  }
  if (!engine->reserve_pages(pages)) std::exit(1);

  BandwidthProbe probe(settings.threads);
  std::vector<double> bandwidth;
  std::vector<std::vector<double>> decode(settings.sessions.size());
  std::vector<std::vector<double>> prefill(settings.prompts.size());
  for (int round = 0; round < settings.rounds; ++round) {
    bandwidth.push_back(probe.measure());
    for (std::size_t i = 0; i < settings.sessions.size(); ++i) {
      Load load(*engine, config, settings.sessions[i], 1, settings.context);
      for (int step = 0; step < 3; ++step) decode[i].push_back(load.run());
    }
    for (std::size_t i = 0; i < settings.prompts.size(); ++i) {
      prefill[i].push_back(Load(*engine, config, 1, settings.prompts[i], settings.context).run());
    }
  }
  const double memory = median(bandwidth);
  std::printf("memory: %.1f GB/s read by %d threads\n", memory / 1e9, settings.threads);
  double single = 0.0;
  for (std::size_t i = 0; i < settings.sessions.size(); ++i) {
    const double time = median(decode[i]);
    const double rate = settings.sessions[i] / time;
    if (settings.sessions[i] == 1) single = rate;
    const double bytes = step_bytes(*engine, config, settings, settings.sessions[i]);
    std::printf("decode %3u sessions: %8.1f tokens/s  %6.2f ms a step  %5.1f GB/s (%3.0f%%)",
                settings.sessions[i], rate, time * 1e3, bytes / time / 1e9,
                100.0 * bytes / time / memory);
    std::printf(single > 0.0 ? "  %.1f x one\n" : "\n", rate / single);
  }
  const double flops = 2.0 * step_bytes(*engine, config, Settings{}, 0) / 2.0;
  for (std::size_t i = 0; i < settings.prompts.size(); ++i) {
    const double rate = settings.prompts[i] / median(prefill[i]);
    std::printf("prefill %3u tokens: %8.1f tokens/s  %5.0f GFLOP/s\n", settings.prompts[i], rate,
                rate * flops / (settings.precision == Precision::f32 ? 2.0 : 1.0) / 1e9);
  }
}

std::vector<std::uint32_t> list_of(std::string_view text) {
  std::vector<std::uint32_t> values;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    values.push_back(
        static_cast<std::uint32_t>(std::atoi(std::string(text.substr(0, comma)).c_str())));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--shape") settings.shape = value;
    if (flag == "--precision")
      settings.precision = value == "f32" ? Precision::f32 : Precision::bf16;
    if (flag == "--numerics")
      settings.numerics = value == "fast" ? Numerics::fast : Numerics::exact;
    if (flag == "--threads") settings.threads = std::atoi(value.c_str());
    if (flag == "--context")
      settings.context = static_cast<std::uint32_t>(std::atoi(value.c_str()));
    if (flag == "--rounds") settings.rounds = std::atoi(value.c_str());
    if (flag == "--sessions") settings.sessions = list_of(value);
    if (flag == "--prompts") settings.prompts = list_of(value);
  }
  if (argc % 2 == 0) {
    std::puts(
        "usage: bench_engine [--shape 160m|1.1b|7b] [--precision bf16|f32]\n"
        "  [--numerics exact|fast] [--threads N] [--context TOKENS] [--rounds N]\n"
        "  [--sessions 1,4,16,32] [--prompts 128,512]");
    return 2;
  }
  bench(settings);
  return 0;
}
