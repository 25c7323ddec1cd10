// How many layers fit into this machine, in which precision: everything that a node will hold is
// charged to memory that is free now, and the system is asked for it before it is promised.
//
// Takes a model's shape and what is free, gives a number of layers. Pure, but for may_allocate().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <farmesh/kv_format.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

#include "model/model_config.hpp"

namespace farmesh::node {

/// What serving takes, in bytes.
struct MemoryNeeds {
  std::uint64_t weights_per_layer = 0;
  std::uint64_t cache_per_layer = 0;  // of all its tokens
  std::uint64_t head = 0;             // embedding, norm and LM head; 0 without a head
  std::uint64_t scratch = 0;          // of forward passes
  std::uint64_t program = 0;          // libraries, connections, history of sessions

  std::uint64_t per_layer() const noexcept { return weights_per_layer + cache_per_layer; }
  std::uint64_t fixed() const noexcept { return head + scratch + program; }
  std::uint64_t of(std::uint32_t layers) const noexcept { return fixed() + layers * per_layer(); }
};

MemoryNeeds memory_needs(const model::ModelConfig& config, Precision precision, KvFormat kv,
                         std::uint32_t cache_tokens, bool head);

struct CapacityQuestion {
  std::uint64_t free_bytes = 0;  // of which a tenth stays free
  std::uint64_t most_bytes = 0;  // to use of them; 0: no such limit
  std::uint32_t max_layers = 0;  // that are wanted; 0: as many as fit
  std::uint32_t cache_tokens = 16'384;
  bool head = false;
  std::optional<Precision> precision;  // that was asked for; nothing: the best that fits
  std::optional<KvFormat> kv;          // nothing: the precision's own
  Precision usual = Precision::bf16;   // what the files call for
  bool quantised = true;               // its numerics know int8 and int4 weights
  /// Numerics classes of the nodes that serve the model already: a route holds to one precision,
  /// so theirs is taken where it fits.
  std::span<const std::string_view> classes;
};

struct Capacity {
  Precision precision = Precision::bf16;
  std::uint32_t layers = 0;  // at least 1, at most the model's
  MemoryNeeds needs;
};

/// The precision that most of the others compute in, if a useful part of the model fits in it, else
/// the files' own, else the first of int8 and int4 in which such a part fits, else whatever holds a
/// layer at all; of those that `quantised` lets be. Fails with out_of_memory, which says how much a
/// layer takes and what is free.
Result<Capacity> capacity_of(const model::ModelConfig& config, const CapacityQuestion& question);

/// Whether the system would give `bytes` of memory to this process, beside all that it has. Takes
/// them, untouched, and gives them back.
bool may_allocate(std::uint64_t bytes) noexcept;

}  // namespace farmesh::node
