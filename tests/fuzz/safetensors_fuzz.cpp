// Any bytes as a safetensors file: a header that is accepted must describe memory that exists.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "model/model_folder.hpp"

using namespace farmesh;  // NOLINT: a program of one function

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 8) return 0;
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | data[i];
  header = std::min<std::uint64_t>(header, size - 8);
  const std::uint64_t data_bytes = size - 8 - header;
  const auto parsed = model::parse_safetensors_header(
      {reinterpret_cast<const char*>(data) + 8, header}, data_bytes);
  if (!parsed) return 0;
  std::uint64_t covered = 0;
  for (const model::SafetensorsEntry& entry : *parsed) {
    if (entry.begin > entry.end || entry.end > data_bytes) std::abort();
    covered += entry.end - entry.begin;
  }
  if (covered != data_bytes) std::abort();
  return 0;
}
