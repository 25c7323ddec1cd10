// What an engine computes on a device, beside a plain forward pass in double on the processor.
//
// Small random models, a prompt and then steps of two sessions of different lengths, so that a
// GPU's recorded steps are among them. Built with FARMESH_ENGINE_ONLY, too: it is what says, on a
// machine with a GPU and nothing else of FarMesh, whether its figures are worth reading.
//
// usage: check_engine [cpu|cuda|cuda:N]; ends with 1 where a bound is exceeded, and with 77 where
// there is no such device.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/engine_library.hpp"
#include "golden/plain_decoder.hpp"

namespace {

using namespace farmesh;         // NOLINT: a program of one file
using namespace farmesh::model;  // NOLINT
using bench::EngineLibrary;

constexpr std::uint32_t kIds = 45;
constexpr std::uint32_t kPrompt = 19;
constexpr int kNoSuchDevice = 77;

ModelConfig plain() {
  ModelConfig c;
  c.hidden_size = 128;
  c.intermediate_size = 288;
  c.num_layers = 3;
  c.num_heads = 4;
  c.num_kv_heads = 4;
  c.head_dim = 32;
  c.vocab_size = 96;
  c.max_position = 4096;
  return c;
}

struct Shape {
  const char* name;
  ModelConfig config;
};

std::vector<Shape> shapes() {
  std::vector<Shape> shapes{{"every query its own keys", plain()}};
  ModelConfig grouped = plain();
  grouped.num_heads = 8;
  grouped.num_kv_heads = 2;
  grouped.head_dim = 64;
  grouped.qkv_bias = true;
  grouped.tied_embeddings = true;
  shapes.push_back({"grouped queries, biases, tied", grouped});
  ModelConfig windows = grouped;
  windows.qk_norm = true;
  windows.sliding_window = {0, 5, 17};
  shapes.push_back({"windows, norms of queries and keys", windows});
  ModelConfig layer_norms = plain();
  layer_norms.norm = NormKind::layer;
  layer_norms.gated_mlp = false;
  layer_norms.activation = Activation::gelu_tanh;
  layer_norms.qkv_bias = layer_norms.attention_out_bias = layer_norms.mlp_bias = true;
  shapes.push_back({"layer norms, plain MLP", layer_norms});
  ModelConfig odd = plain();  // sizes that no product of the library's own takes
  odd.hidden_size = 40;
  odd.intermediate_size = 52;
  odd.head_dim = 10;
  shapes.push_back({"odd sizes", odd});
  return shapes;
}

/// Logits of size 1 to 3 move by no more than this.
double bound_of(Precision precision, bool gpu) {
  switch (precision) {
    case Precision::f32: return gpu ? 1e-4 : 2e-5;
    case Precision::f16: return 0.12;  // the residual stream is in bf16
    case Precision::bf16: return 0.12;
    case Precision::int8: return 0.4;
    case Precision::int4: return 3.0;
  }
  return 0.0;
}

class Session {
 public:
  Session(StageEngine& engine, std::uint32_t first_page) : engine_(engine) {
    for (std::uint32_t i = 0; i < 3; ++i) pages_.push_back(first_page + i);
  }

  /// Makes rows of the ids at [position, position + rows).
  SequenceRows rows(const std::vector<TokenId>& ids, std::uint32_t position, std::uint32_t rows) {
    const std::size_t row = row_bytes();
    in_.resize(rows * row);
    out_.resize(rows * row);
    if (!engine_.embed({ids.data() + position, rows}, in_)) EngineLibrary::fail("embed failed");
    position_ = position + rows - 1;
    return {pages_, position, rows, in_, out_};
  }

  /// The largest difference of the last row's logits.
  double apart(const std::vector<std::vector<double>>& expected) const {
    std::vector<float> logits(engine_.info().vocab_size);
    if (!engine_.logits(ByteView(out_).last(row_bytes()), 1, logits)) {
      EngineLibrary::fail("logits failed");
    }
    double worst = 0.0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double difference = std::abs(logits[i] - expected[position_][i]);
      worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    }
    return worst;
  }

 private:
  std::size_t row_bytes() const {
    return engine_.info().hidden_size * bytes_of(engine_.info().residual);
  }

  StageEngine& engine_;
  std::vector<std::uint32_t> pages_;
  std::vector<std::byte> in_, out_;
  std::uint32_t position_ = 0;
};

double furthest(StageEngine& engine, const std::vector<TokenId>& ids,
                const std::vector<std::vector<double>>& expected) {
  Session first(engine, 0), second(engine, 5);
  double worst = 0.0;
  const auto step = [&](const std::vector<SequenceRows>& batch) {
    const Result<void> done = engine.forward(engine.info().blocks, batch);
    if (!done) EngineLibrary::fail(done.error().detail);
  };
  step({first.rows(ids, 0, 1), second.rows(ids, 0, kPrompt)});
  worst = std::max({worst, first.apart(expected), second.apart(expected)});
  for (std::uint32_t i = 1; i < kIds; ++i) {
    std::vector<SequenceRows> batch{first.rows(ids, i, 1)};
    const bool both = i + kPrompt - 1 < kIds;
    if (both) batch.push_back(second.rows(ids, i + kPrompt - 1, 1));
    step(batch);
    worst = std::max(worst, first.apart(expected));
    if (both) worst = std::max(worst, second.apart(expected));
  }
  return worst;
}

/// Prints a row for each shape and precision; whether all were within their bounds.
bool check(const EngineLibrary& library, Device device) {
  std::vector<TokenId> ids(kIds);
  for (std::uint32_t i = 0; i < kIds; ++i) ids[i] = (i * 31 + i * i) % 96;
  const bool gpu = device.kind != DeviceKind::cpu;
  std::vector<Precision> precisions{Precision::f32, Precision::bf16, Precision::int8,
                                    Precision::int4};
  if (gpu) precisions.push_back(Precision::f16);
  bool within = true;
  for (const Shape& shape : shapes()) {
    const golden::RandomWeights weights(shape.config, DType::f32, 7);
    const auto expected = golden::plain_logits(shape.config, weights, Precision::f32, ids);
    for (const Precision precision : precisions) {
      EngineOptions options;
      options.blocks = {0, shape.config.num_layers};
      options.head = true;
      options.precision = precision;
      options.device = device;
      options.numerics = Numerics::fused;
      options.threads = 1;
      const auto engine = library.load(shape.config, weights, options);
      if (!engine->reserve_pages(8)) EngineLibrary::fail("no memory for pages");
      const double apart = furthest(*engine, ids, expected);
      const double bound = bound_of(precision, gpu);
      within = within && apart <= bound;
      std::printf("check %-36s %-4s furthest logit %.1e, bound %.1e  %s\n", shape.name,
                  std::string(name(precision)).c_str(), apart, bound,
                  apart <= bound ? "ok" : "TOO FAR");
    }
  }
  return within;
}

}  // namespace

int main(int argc, char** argv) {
  const auto device = device_from_name(argc > 1 ? argv[1] : "cpu");
  if (!device || argc > 2) {
    std::puts("usage: check_engine [cpu|cuda|cuda:N]");
    return 2;
  }
  const EngineLibrary library;
  const auto memory = library.memory(*device);
  if (!memory) {
    std::printf("%s\n", memory.error().detail.c_str());
    return kNoSuchDevice;
  }
  std::printf("%s: %.1f GB of memory, %.1f GB free\n", name(*device).c_str(),
              static_cast<double>(memory->total_bytes) / 1e9,
              static_cast<double>(memory->free_bytes) / 1e9);
  return check(library, *device) ? 0 : 1;
}
