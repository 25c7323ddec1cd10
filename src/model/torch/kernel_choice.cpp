#include "model/torch/kernel_choice.hpp"

#include <cstdlib>
#include <optional>
#include <string>

namespace farmesh::model {

Result<kernels::Isa> chosen_isa() {
  const char* forced = std::getenv("FARMESH_ISA");
  if (forced == nullptr || *forced == '\0') return kernels::best_isa();
  const std::optional<kernels::Isa> named = kernels::isa_from_name(forced);
  if (!named || !kernels::usable(*named)) {
    return {Errc::config_invalid,
            "FARMESH_ISA=" + std::string(forced) +
                ": not avx512bf16, avx512vnni, avx512, avx2 or portable, or not of this CPU"};
  }
  return *named;
}

kernels::WeightFormat format_of(Precision precision, MatrixRole role) {
  switch (precision) {
    case Precision::f32: return kernels::WeightFormat::f32;
    case Precision::bf16:
    case Precision::f16: return kernels::WeightFormat::bf16;
    case Precision::int8: return kernels::WeightFormat::int8;
    case Precision::int4: break;
  }
  return role == MatrixRole::layer ? kernels::WeightFormat::int4 : kernels::WeightFormat::int8;
}

}  // namespace farmesh::model
