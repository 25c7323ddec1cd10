#include "node/capacity.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/types.hpp"
#include "model/stage_engine.hpp"

namespace farmesh::node {
namespace {

// A part of what is free stays free: the sums below are exact for weights and caches only.
constexpr double kMayBeTaken = 0.9;
constexpr std::uint64_t kPassRows = 512;               // of one forward pass, at most
constexpr std::uint64_t kProgramBytes = 640ull << 20;  // of which 256 MB of history
// Fewer of a model's layers than this share are not worth a better precision.
constexpr std::uint32_t kUsefulParts = 8;

/// Bits of a weight in memory: quantised ones with their share of a scale.
std::uint64_t half_bits_of(Precision precision) noexcept {
  switch (precision) {
    case Precision::f32: return 64;
    case Precision::bf16:
    case Precision::f16: return 32;
    case Precision::int8: return 17;
    case Precision::int4: return 9;
  }
  return 64;
}

std::uint64_t tensor_bytes(const std::vector<model::TensorSpec>& tensors, Precision precision) {
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& tensor : tensors) {
    std::uint64_t elements = 1;
    for (const std::uint64_t size : tensor.shape) elements *= size;
    // Norms and biases are few and computed with as they are.
    bytes += tensor.shape.size() < 2 ? elements * 4 : elements * half_bits_of(precision) / 16;
  }
  return bytes;
}

/// Of one token in one layer: in int8 two bytes a scale, one for each 32 of a head's keys and one
/// for its values.
std::uint64_t cache_bytes(const model::ModelConfig& config, KvFormat kv) {
  switch (kv) {
    case KvFormat::f32: return 8ull * config.kv_size();
    case KvFormat::bf16: return 4ull * config.kv_size();
    case KvFormat::int8: break;
  }
  const std::uint64_t scales = (config.head_dim + 31) / 32 + 1;
  return 2ull * config.kv_size() + 2ull * scales * config.num_kv_heads;
}

std::uint64_t usable_bytes(const CapacityQuestion& question) {
  const double usable = static_cast<double>(question.free_bytes) * kMayBeTaken;
  const auto bytes = static_cast<std::uint64_t>(usable);
  return question.most_bytes == 0 ? bytes : std::min(bytes, question.most_bytes);
}

std::uint32_t layers_within(const MemoryNeeds& needs, std::uint64_t usable, std::uint32_t most) {
  if (usable < needs.of(1)) return 0;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>((usable - needs.fixed()) / needs.per_layer(), most));
}

std::optional<Precision> precision_of_class(std::string_view numerics_class) {
  const std::string_view first = numerics_class.substr(0, numerics_class.find('/'));
  for (const Precision one : {Precision::f32, Precision::bf16, Precision::int8, Precision::int4}) {
    if (first == name(one)) return one;
  }
  return std::nullopt;
}

/// Best first, each once.
std::vector<Precision> preferences(const CapacityQuestion& question) {
  if (question.precision) return {*question.precision};
  std::map<Precision, std::size_t> votes;
  for (const std::string_view one : question.classes) {
    if (const auto precision = precision_of_class(one)) ++votes[*precision];
  }
  std::vector<Precision> wanted;
  const auto most = std::max_element(
      votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != votes.end()) wanted.push_back(most->first);
  for (const Precision one : {question.usual, Precision::int8, Precision::int4}) {
    if (std::find(wanted.begin(), wanted.end(), one) == wanted.end()) wanted.push_back(one);
  }
  if (!question.quantised) {
    std::erase_if(wanted,
                  [](Precision one) { return one == Precision::int8 || one == Precision::int4; });
  }
  return wanted;
}

}  // namespace

MemoryNeeds memory_needs(const model::ModelConfig& config, Precision precision, KvFormat kv,
                         std::uint32_t cache_tokens, bool head) {
  MemoryNeeds needs;
  needs.weights_per_layer = tensor_bytes(model::required_tensors(config, {0, 1}, false), precision);
  needs.cache_per_layer = cache_tokens * cache_bytes(config, kv);
  if (head) needs.head = tensor_bytes(model::required_tensors(config, {}, true), precision);
  const std::uint64_t row = std::uint64_t{6} * config.hidden_size + 2 * config.q_size() +
                            4 * config.kv_size() + 3 * config.intermediate_size +
                            (head ? config.vocab_size : 0);
  needs.scratch = kPassRows * row * sizeof(float);
  needs.program = kProgramBytes;
  return needs;
}

Result<Capacity> capacity_of(const model::ModelConfig& config, const CapacityQuestion& question) {
  const std::uint32_t most = question.max_layers == 0
                                 ? config.num_layers
                                 : std::min(question.max_layers, config.num_layers);
  const std::uint32_t useful =
      std::min(most, (config.num_layers + kUsefulParts - 1) / kUsefulParts);
  const std::uint64_t usable = usable_bytes(question);
  Capacity chosen;
  for (const Precision precision : preferences(question)) {
    const KvFormat kv = question.kv.value_or(model::usual_kv(precision));
    const MemoryNeeds needs =
        memory_needs(config, precision, kv, question.cache_tokens, question.head);
    const std::uint32_t layers = layers_within(needs, usable, most);
    if (layers > chosen.layers || chosen.needs.program == 0) chosen = {precision, layers, needs};
    if (layers >= useful) break;
  }
  if (chosen.layers > 0) return chosen;
  return {Errc::out_of_memory,
          fmt::format("one layer in {} takes {:.2f} GB with a cache of {} tokens, and the rest "
                      "{:.2f} GB: more than the {:.2f} GB that may be used of {:.2f} GB free",
                      name(chosen.precision), double(chosen.needs.per_layer()) / 1e9,
                      question.cache_tokens, double(chosen.needs.fixed()) / 1e9,
                      double(usable) / 1e9, double(question.free_bytes) / 1e9)};
}

bool may_allocate(std::uint64_t bytes) noexcept {
  if (bytes == 0) return true;
  void* const taken =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (taken == MAP_FAILED) return false;
  ::munmap(taken, bytes);
  return true;
}

}  // namespace farmesh::node
