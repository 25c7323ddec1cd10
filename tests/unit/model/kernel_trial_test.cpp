// Trials of single kernels: what they count, and what they refuse. Not how fast anything is.
#include "model/kernel_trial.hpp"

#include <doctest/doctest.h>

#include "model/engine_loader.hpp"

namespace farmesh::model {

TEST_SUITE("model/kernel_trial") {
  TEST_CASE("a product's trial counts its weights' bytes and its operations") {
    for (const Precision precision : {Precision::bf16, Precision::int4}) {
      CAPTURE(name(precision));
      const auto figures = try_kernel({ProductTrial{precision, 3, 1'024, 2'048}, 2});
      REQUIRE(figures);
      CHECK(figures->seconds > 0);
      const double bits = precision == Precision::bf16 ? 16 : 4.5;
      CHECK(figures->bytes == doctest::Approx(1'024.0 * 2'048 * bits / 8));
      CHECK(figures->operations == doctest::Approx(2.0 * 3 * 1'024 * 2'048));
    }
  }

  TEST_CASE("attention's trial counts the pages of its context") {
    const auto figures = try_kernel({AttentionTrial{KvFormat::bf16, 8, 2, 64, 1'000}, 2});
    REQUIRE(figures);
    CHECK(figures->seconds > 0);
    CHECK(figures->bytes == doctest::Approx(1'008.0 * 2 * 64 * 2 * 2));  // whole pages of 16
    CHECK(figures->operations == doctest::Approx(4.0 * 1'000 * 8 * 64));
  }

  TEST_CASE("sizes that make no kernel are refused") {
    const KernelTrial bad[] = {
        {ProductTrial{Precision::bf16, 0, 64, 64}, 1},
        {ProductTrial{Precision::bf16, 1, 0, 64}, 1},
        {ProductTrial{Precision::bf16, 1, 64, 0}, 1},
        {ProductTrial{Precision::f16, 1, 64, 64}, 1},
        {ProductTrial{Precision::bf16, 1, 64, 64}, 0},
        {AttentionTrial{KvFormat::bf16, 7, 2, 64, 16}, 1},
        {AttentionTrial{KvFormat::bf16, 8, 0, 64, 16}, 1},
        {AttentionTrial{KvFormat::bf16, 8, 2, 64, 0}, 1},
    };
    for (const KernelTrial& trial : bad) {
      const auto figures = try_kernel(trial);
      REQUIRE_FALSE(figures);
      CHECK(figures.error().code == Errc::invalid_argument);
    }
  }
}

}  // namespace farmesh::model
