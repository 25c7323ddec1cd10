// Any bytes as a model's manifest: one that is accepted describes files in one folder, and says the
// same after another round.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/manifest.hpp"

using namespace farmesh;  // NOLINT: a program of one function

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = model::parse_manifest({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  for (const model::ManifestFile& file : parsed->files) {
    if (file.name.find('/') != std::string::npos) std::abort();
    const std::uint64_t pieces = (file.length + parsed->piece_bytes - 1) / parsed->piece_bytes;
    if (file.pieces.size() != pieces) std::abort();
  }
  const auto again = model::parse_manifest(parsed->encode());
  if (!again || again->model_hash() != parsed->model_hash() ||
      again->info_hash() != parsed->info_hash()) {
    std::abort();
  }
  return 0;
}
