// Any text as a config.json: a config that is accepted must keep its own promises.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "model/model_config.hpp"
#include "model/rope.hpp"

using namespace farmesh;  // NOLINT: a program of one function

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = model::parse_model_config({reinterpret_cast<const char*>(data), size});
  if (!config) return 0;
  const bool sound = config->num_kv_heads > 0 && config->num_heads % config->num_kv_heads == 0 &&
                     config->head_dim % 2 == 0 && config->hidden_size > 0 &&
                     config->max_position > 0 && config->norm_eps > 0.0;
  if (!sound) std::abort();
  for (const TokenId id : config->eos_tokens) {
    if (id >= config->vocab_size) std::abort();
  }
  std::vector<double> frequencies;
  model::rope_frequencies(*config, 1000, frequencies);
  if (frequencies.size() != config->head_dim / 2) std::abort();
  if (config->num_layers <= 64) required_tensors(*config, {0, config->num_layers}, true);
  return 0;
}
