// The loops over a whole vocabulary, on the widest vectors that the processor has.
//
// Every element, and every sum, is computed by one sequence of operations: the bits are the same
// on each instruction set.
#pragma once

#include <cstddef>
#include <span>

namespace farmesh::sampling {

/// weights[i] = exp((scores[i] - greatest) / temperature), 0 for a score that is not finite.
/// `weights` holds scores.size() values.
void exp_weights(std::span<const float> scores, double greatest, double temperature,
                 double* weights) noexcept;

/// The sum of exp(score - greatest) over the finite scores.
double exp_sum(std::span<const float> scores, double greatest) noexcept;

/// The greatest finite score; minus infinity when none is finite.
float greatest_finite(std::span<const float> scores) noexcept;

}  // namespace farmesh::sampling
