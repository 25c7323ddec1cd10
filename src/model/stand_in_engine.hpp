// An engine without libtorch or weights, for schedulers, networks and failover.
//
// It keeps the contract that matters: a row's output depends on its input, its position, the
// layer, and on every earlier row in its KV pages, exactly and independently of batching. A
// lost, doubled, misplaced or stale cache row therefore changes every later token. Greedy output
// wanders over the whole vocabulary; ids 0, 1 and 2, by custom the special ones, are never the
// likeliest, so a test that wants a stop names an ordinary id as its stop token.
#pragma once

#include <cstdint>
#include <memory>

#include "model/stage_engine.hpp"

namespace farmesh::model {

struct StandInOptions {
  Span blocks{0, 4};
  bool head = false;
  std::uint32_t hidden_size = 16;  // f32 residual
  std::uint32_t vocab_size = 97;
  std::uint32_t page_tokens = 4;
  std::uint64_t seed = 1;  // stands for the weights: equal seeds, equal model
};

std::unique_ptr<StageEngine> make_stand_in_engine(const StandInOptions& options);

}  // namespace farmesh::model
