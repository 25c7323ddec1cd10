// Tensors of Python's as rows of the library's.
#pragma once

#include "binding.hpp"

namespace farlabs {

/// The same memory, which lives as long as the rows do. Raises TypeError where it is no tensor, and
/// InvalidRequestError where it cannot hold hidden states.
farmesh::Rows rows_of(const py::handle& given);

}  // namespace farlabs
