#include "sampling/wide_loops.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "sampling/fixed_exp.hpp"

using namespace farmesh::sampling;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> scores_with_holes(std::mt19937& random, std::size_t count) {
  std::normal_distribution<float> normal(0, 8);
  std::vector<float> scores(count);
  for (float& score : scores) score = normal(random);
  const float holes[] = {kInfinity, -kInfinity, std::nanf("")};
  for (std::size_t i = 0; i < count / 16; ++i) scores[random() % count] = holes[i % 3];
  return scores;
}

}  // namespace

TEST_SUITE("sampling/wide_loops") {
  TEST_CASE("vectors give the bits that one value at a time gives, at every length") {
    std::mt19937 random(11);
    for (std::size_t count = 0; count < 130; ++count) {
      const std::vector<float> scores = scores_with_holes(random, count);
      float greatest = -kInfinity;
      for (const float score : scores) {
        if (std::isfinite(score)) greatest = std::max(greatest, score);
      }
      CAPTURE(count);
      CHECK(greatest_finite(scores) == greatest);
      if (!std::isfinite(greatest)) continue;

      std::vector<double> weights(count);
      exp_weights(scores, greatest, 0.7, weights.data());
      double lanes[16] = {};
      for (std::size_t i = 0; i < count; ++i) {
        REQUIRE(weights[i] == fixed_exp((double{scores[i]} - greatest) / 0.7));
        lanes[i % 16] += fixed_exp(double{scores[i]} - greatest);
      }
      double sum = 0;
      for (const double lane : lanes) sum += lane;
      CHECK(exp_sum(scores, greatest) == sum);
    }
  }

  TEST_CASE("where nothing is finite there is no greatest score") {
    CHECK(greatest_finite({}) == -kInfinity);
    CHECK(greatest_finite(std::vector<float>(40, kInfinity)) == -kInfinity);
    CHECK(greatest_finite(std::vector<float>(40, std::nanf(""))) == -kInfinity);
  }
}
