// The rotary frequencies that a RopeConfig describes.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.hpp"

namespace farmesh::model {

/// Angle per position of each of the head_dim / 2 pairs, for the token at `position`; only
/// dynamic scaling depends on it. There the base grows with the context: a token takes the base
/// of the context that ends with it, as when tokens come one at a time, so that chunking a
/// prompt cannot change its keys.
void rope_frequencies(const ModelConfig& config, std::uint64_t position, std::vector<double>& out);

/// What every cosine and sine is multiplied by: yarn's attention factor, else 1.
double rope_magnitude(const RopeConfig& rope);

}  // namespace farmesh::model
