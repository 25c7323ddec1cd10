// farmesh model quantize, perplexity: what a precision costs a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <farmesh/activations.hpp>
#include <farmesh/device.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/types.hpp>

namespace farmesh::cli {

struct MeasureFlags {
  std::string folder;
  Precision precision = Precision::int4;
  std::optional<KvFormat> kv;
  std::optional<Numerics> numerics;
  Device device;
  Activations activations = Activations::residual;
  std::uint32_t stages = 1;  // that they travel to and from
  int threads = 0;
  bool report = false;
  bool keep = false;
  bool json = false;
};

/// Quantises the whole model and tells its size; with `keep` into files beside it, that nodes then
/// load; with `report` what every matrix lost. Returns the exit code.
int quantize_model(const MeasureFlags& flags);

/// Reads a text from standard input and tells how well the model foresees it, token by token.
/// Returns the exit code.
int measure_perplexity(const MeasureFlags& flags);

}  // namespace farmesh::cli
