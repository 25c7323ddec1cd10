#include "model/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace farmesh::model {
namespace {

/// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
double llama3_frequency(const RopeConfig& rope, double original, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double low = original / rope.low_freq_factor;
  const double high = original / rope.high_freq_factor;
  if (wavelength > low) return frequency / rope.factor;
  if (wavelength < high) return frequency;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

/// YaRN (Peng et al. 2023): the pair whose wavelength turns `rotations` times in the context.
double yarn_pair(const RopeConfig& rope, double original, double dim, double rotations) {
  return dim * std::log(original / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(rope.theta));
}

}  // namespace

void rope_frequencies(const ModelConfig& config, std::uint64_t position, std::vector<double>& out) {
  const RopeConfig& rope = config.rope;
  const double dim = config.head_dim;
  const double original =
      rope.original_max_position != 0 ? rope.original_max_position : config.max_position;
  double theta = rope.theta;
  if (rope.scaling == RopeScaling::dynamic) {
    const double length = std::max(original, static_cast<double>(position) + 1.0);
    theta *= std::pow(rope.factor * length / original - (rope.factor - 1.0), dim / (dim - 2.0));
  }
  double ramp_begin = 0.0;
  double ramp_end = 0.0;
  if (rope.scaling == RopeScaling::yarn) {
    ramp_begin = std::max(std::floor(yarn_pair(rope, original, dim, rope.beta_fast)), 0.0);
    ramp_end = std::min(std::ceil(yarn_pair(rope, original, dim, rope.beta_slow)), dim - 1.0);
    if (ramp_begin == ramp_end) ramp_end += 0.001;
  }
  out.resize(config.head_dim / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
    if (rope.scaling == RopeScaling::linear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::llama3) {
      frequency = llama3_frequency(rope, original, frequency);
    }
    if (rope.scaling == RopeScaling::yarn) {
      const double ramp =
          std::clamp((static_cast<double>(i) - ramp_begin) / (ramp_end - ramp_begin), 0.0, 1.0);
      frequency = frequency / rope.factor * ramp + frequency * (1.0 - ramp);
    }
    out[i] = frequency;
  }
}

double rope_magnitude(const RopeConfig& rope) {
  if (rope.scaling != RopeScaling::yarn) return 1.0;
  if (rope.attention_factor > 0.0) return rope.attention_factor;
  return rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0;
}

}  // namespace farmesh::model
