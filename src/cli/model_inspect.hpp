// farmesh model inspect: what a folder holds, checked on the way.
#pragma once

#include <string>

namespace farmesh::cli {

/// Prints the model's shape, sizes and text side; returns the exit code.
int inspect_model(const std::string& folder, bool list_tensors, bool json);

}  // namespace farmesh::cli
