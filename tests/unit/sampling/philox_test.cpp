#include "sampling/philox.hpp"

#include <cmath>

#include <doctest/doctest.h>

#include "sampling/fixed_exp.hpp"
#include "sampling/sampler.hpp"

using namespace farmesh;
using namespace farmesh::sampling;

TEST_SUITE("sampling/philox") {
  TEST_CASE("philox gives the known answers of its authors' library") {
    CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) ==
          PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
          PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  }

  TEST_CASE("uniform draws are a function of seed and position alone, and fill [0, 1) evenly") {
    CHECK(uniform(7, 11) == uniform(7, 11));
    CHECK(uniform(7, 11) != uniform(7, 12));
    CHECK(uniform(7, 11) != uniform(8, 11));
    CHECK(uniform(0, 1) != uniform(0, std::uint64_t{1} << 32));
    constexpr int kDraws = 100'000;
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double u = uniform(42, static_cast<std::uint64_t>(i));
      if (u < 0 || u >= 1) FAIL("outside [0, 1)");
      sum += u;
      squares += u * u;
    }
    CHECK(sum / kDraws == doctest::Approx(0.5).epsilon(0.01));
    CHECK(squares / kDraws == doctest::Approx(1.0 / 3).epsilon(0.01));
  }

  TEST_CASE("the fixed exponential stays within 2 ulp of the mathematical library") {
    for (int i = 0; i < 20'000; ++i) {
      const double x = -708.0 * uniform(1, static_cast<std::uint64_t>(i)) * (i % 3 == 0 ? 1 : 0.02);
      const double truth = static_cast<double>(std::exp(static_cast<long double>(x)));
      REQUIRE(std::abs(fixed_exp(x) - truth) <= 2 * (std::nextafter(truth, 2.0) - truth));
    }
    CHECK(fixed_exp(0) == 1);
    CHECK(fixed_exp(-709) == 0);
    CHECK(fixed_exp(-HUGE_VAL) == 0);
    CHECK(fixed_exp(std::nan("")) == 0);
  }
}
