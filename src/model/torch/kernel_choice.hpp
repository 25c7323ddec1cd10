// Which of our kernels compute: the instruction set, and the form of the weights.
#pragma once

#include <farmesh/result.hpp>

#include "kernels/isa.hpp"
#include "kernels/packed_matrix.hpp"
#include "model/torch/ops.hpp"

namespace farmesh::model {

/// The CPU's best, or what FARMESH_ISA names. Fails with config_invalid when that is none that this
/// CPU has.
Result<kernels::Isa> chosen_isa();

kernels::WeightFormat format_of(Precision precision, MatrixRole role);

}  // namespace farmesh::model
