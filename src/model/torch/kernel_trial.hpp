// try_kernel() of model/kernel_trial.hpp, on this side of the library.
#pragma once

#include "model/kernel_trial.hpp"

namespace farmesh::model {

/// Fails with invalid_argument; throws std::bad_alloc.
Result<KernelFigures> run_kernel(const KernelTrial& trial);

}  // namespace farmesh::model
