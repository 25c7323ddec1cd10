// How fast one engine computes, beside what this machine's memory gives in the same run.
//
// Needs nothing but libfarmesh_torch.so beside it or in FARMESH_TORCH_LIBRARY: weights are made up
// tensor by tensor. Prints medians of interleaved rounds; run it on an otherwise idle machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/engine_library.hpp"
#include "model/engine_load.hpp"
#include "model/machine_probe.hpp"

namespace {

using namespace farmesh;         // NOLINT: a program of one file
using namespace farmesh::model;  // NOLINT
using bench::EngineLibrary;
using Seconds = std::chrono::duration<double>;

struct Settings {
  std::string shape = "1.1b";
  Precision precision = Precision::bf16;
  std::optional<KvFormat> kv;
  std::optional<Numerics> numerics;
  Device device;
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

std::unique_ptr<StageEngine> open_engine(const EngineLibrary& library, const ModelConfig& config,
                                         const Settings& settings) {
  EngineOptions options;
  options.blocks = {0, config.num_layers};
  options.head = true;
  options.precision = settings.precision;
  options.kv = settings.kv;
  options.numerics = settings.numerics;
  options.device = settings.device;
  options.threads = settings.threads;
  const MadeUpWeights weights(config);
  std::unique_ptr<StageEngine> engine;
  const double time = seconds([&] { engine = library.load(config, weights, options); });
  std::printf("%s %s, %s, %d threads: %.2f GB of weights made up and packed in %.1f s\n",
              settings.shape.c_str(), std::string(name(settings.precision)).c_str(),
              engine->info().numerics_class.c_str(), settings.threads,
              static_cast<double>(engine->info().weight_bytes) / 1e9, time);
  return engine;
}

double run(EngineLoad& load) {
  const Result<double> time = load.run();
  if (!time) {
    std::fprintf(stderr, "bench_engine: %s\n", time.error().detail.c_str());
    std::exit(1);
  }
  return *time;
}

void bench_engine(const Settings& settings) {
  const ModelConfig config = config_of(settings.shape);
  const EngineLibrary library;
  const auto engine = open_engine(library, config, settings);
  std::vector<LoadShape> decodes, prefills;
  for (const std::uint32_t n : settings.sessions) decodes.push_back({n, 1, settings.context});
  for (const std::uint32_t n : settings.prompts) prefills.push_back({1, n, settings.context});
  std::uint32_t pages = 1;
  for (const auto& shapes : {decodes, prefills}) {
    for (const LoadShape& shape : shapes) {
      pages = std::max(pages, shape.sessions * shape.pages_each(engine->info().page_tokens));
    }
  }
  if (!engine->reserve_pages(pages)) std::exit(1);

  const bool gpu = settings.device.kind != DeviceKind::cpu;
  BandwidthProbe probe(settings.threads);
  std::vector<double> bandwidth, products;  // a second
  const char* of = settings.precision == Precision::f32 ? "products of f32" : "products of bf16";
  const auto measure = [&] {  // what the device gives now
    if (gpu) {
      const DeviceSpeed speed = library.speed(settings.device);
      bandwidth.push_back(speed.bytes_per_second);
      products.push_back(settings.precision == Precision::f32 ? speed.f32_per_second
                                                              : speed.bf16_per_second);
      return;
    }
    bandwidth.push_back(probe.measure());
    const ArithmeticLimit limit = measure_arithmetic(settings.threads).limit_of(settings.precision);
    products.push_back(limit.rate);
    of = limit.name;
  };
  std::vector<std::vector<double>> decode(decodes.size()), prefill(prefills.size());
  for (int round = 0; round < settings.rounds; ++round) {
    measure();
    for (std::size_t i = 0; i < decodes.size(); ++i) {
      EngineLoad load(*engine, config, decodes[i]);
      for (int step = 0; step < 5; ++step) decode[i].push_back(run(load));
    }
    for (std::size_t i = 0; i < prefills.size(); ++i) {
      EngineLoad load(*engine, config, prefills[i]);
      prefill[i].push_back(run(load));
    }
  }
  const double memory = median(bandwidth);
  const std::string where =
      gpu ? name(settings.device) : std::to_string(settings.threads) + " threads";
  std::printf("%s: memory %.1f GB/s, %s %.0f Gop/s\n", where.c_str(), memory / 1e9, of,
              median(products) / 1e9);
  double single = 0.0;
  for (std::size_t i = 0; i < decodes.size(); ++i) {
    const double time = median(decode[i]);
    const double rate = decodes[i].sessions / time;
    if (decodes[i].sessions == 1) single = rate;
    const double bytes = step_bytes(engine->info(), decodes[i]);
    std::printf(
        "decode %3u sessions: %8.1f tokens/s  %6.2f ms a step  %7.1f MB a token  %6.1f GB/s "
        "(%3.0f%%)",
        decodes[i].sessions, rate, time * 1e3, bytes / decodes[i].sessions / 1e6,
        bytes / time / 1e9, 100.0 * bytes / time / memory);
    std::printf(single > 0.0 ? "  %.1f x one\n" : "\n", rate / single);
  }
  for (std::size_t i = 0; i < prefills.size(); ++i) {
    const double time = median(prefill[i]);
    const double rate = step_operations(config, prefills[i]) / time;
    std::printf("prefill %3u tokens: %8.1f tokens/s  %5.0f Gop/s (%3.0f%% of %s)\n",
                prefills[i].rows_each, prefills[i].rows_each / time, rate / 1e9,
                100.0 * rate / median(products), of);
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
    for (const Precision precision :
         {Precision::f32, Precision::bf16, Precision::f16, Precision::int8, Precision::int4}) {
      if (flag == "--precision" && value == name(precision)) settings.precision = precision;
    }
    for (const KvFormat kv : {KvFormat::f32, KvFormat::bf16, KvFormat::int8}) {
      if (flag == "--kv" && value == name(kv)) settings.kv = kv;
    }
    if (flag == "--numerics") {
      settings.numerics = value == "fast"    ? Numerics::fast
                          : value == "fused" ? Numerics::fused
                                             : Numerics::exact;
    }
    if (flag == "--device") {
      const auto device = device_from_name(value);
      if (!device) EngineLibrary::fail("bench_engine: devices are cpu, cuda and cuda:N");
      settings.device = *device;
    }
    if (flag == "--threads") settings.threads = std::atoi(value.c_str());
    if (flag == "--context")
      settings.context = static_cast<std::uint32_t>(std::atoi(value.c_str()));
    if (flag == "--rounds") settings.rounds = std::atoi(value.c_str());
    if (flag == "--sessions") settings.sessions = list_of(value);
    if (flag == "--prompts") settings.prompts = list_of(value);
  }
  if (argc % 2 == 0) {
    std::puts(
        "usage: bench_engine [--shape 160m|1.1b|7b] [--precision f32|bf16|f16|int8|int4]\n"
        "  [--kv f32|bf16|int8] [--numerics exact|fast|fused] [--device cpu|cuda[:N]] [--threads "
        "N]\n"
        "  [--context TOKENS] [--rounds N] [--sessions 1,4,16,32] [--prompts 128,512]");
    return 2;
  }
  bench_engine(settings);
  return 0;
}
