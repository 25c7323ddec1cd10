// The lines under a finished text: what it took, and who did it.
#pragma once

#include <farmesh/session.hpp>

namespace farmesh::cli {

/// On standard error.
void print_summary(const Usage& usage, const SamplingOptions& sampling);

}  // namespace farmesh::cli
