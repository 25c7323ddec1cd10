#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "base/float_formats.hpp"
#include "kernels/rope_table.hpp"
#include "unit/kernels/kernels_fixture.hpp"

namespace farmesh::kernels {
namespace {

using test::Random;

constexpr std::int64_t kSizes[] = {1, 2, 15, 16, 17, 31, 64, 100, 333};

double reference(Act act, double x) {
  switch (act) {
    case Act::silu: return x / (1.0 + std::exp(-x));
    case Act::gelu: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Act::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Act::relu: return std::max(x, 0.0);
  }
  return 0.0;
}

/// The same bits on every instruction set.
template <class Compute>
std::vector<float> agreed(const Compute& compute) {
  const std::vector<float> expected = compute(kernel_table(Isa::portable));
  for (const Isa isa : test::usable_isas()) {
    CAPTURE(name(isa));
    const std::vector<float> got = compute(kernel_table(isa));
    CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
  }
  return expected;
}

TEST_SUITE("kernels/elementwise") {
  TEST_CASE("norms agree with double on every size") {
    Random random(7);
    for (const std::int64_t n : kSizes) {
      const auto x = random.floats(n, 3.0F), weight = random.floats(n), bias = random.floats(n);
      const auto size = static_cast<std::size_t>(n);
      double mean = 0.0, squares = 0.0, variance = 0.0;
      for (const float v : x) {
        mean += v / static_cast<double>(n);
        squares += double{v} * v / static_cast<double>(n);
      }
      for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(n);
      const auto rms = agreed([&](const KernelTable& table) {
        std::vector<float> y(size);
        table.rms_norm(x.data(), weight.data(), 1e-5F, y.data(), n);
        return y;
      });
      const auto layer = agreed([&](const KernelTable& table) {
        std::vector<float> y = x;  // in place
        table.layer_norm(y.data(), weight.data(), bias.data(), 1e-5F, y.data(), n);
        return y;
      });
      for (std::size_t i = 0; i < size; ++i) {
        const double by_rms = x[i] / std::sqrt(squares + 1e-5) * weight[i];
        CHECK(rms[i] == doctest::Approx(by_rms).epsilon(1e-5));
        if (n < 3) continue;  // variance 0: the mean's last bit is all there is
        const double by_layer = (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
        CHECK(std::abs(layer[i] - by_layer) < 1e-5);
      }
    }
  }

  TEST_CASE("activations agree with double from -100 to 100, and keep NaN") {
    std::vector<float> x;
    for (int i = -20000; i <= 20000; ++i) x.push_back(static_cast<float>(i) / 200.0F);
    const auto n = static_cast<std::int64_t>(x.size());
    for (const Act act : {Act::silu, Act::gelu, Act::gelu_tanh, Act::relu}) {
      const auto y = agreed([&](const KernelTable& table) {
        std::vector<float> out(x.size());
        table.activate[static_cast<int>(act)](x.data(), out.data(), n);
        return out;
      });
      double worst = 0.0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = reference(act, x[i]);
        worst = std::max(worst, std::abs(y[i] - expected) / std::max(1e-3, std::abs(expected)));
      }
      CHECK(worst < 1e-6);
      const std::vector<float> nan{std::numeric_limits<float>::quiet_NaN()};
      const auto kept = agreed([&](const KernelTable& table) {
        std::vector<float> out(1);
        table.activate_gated[static_cast<int>(act)](nan.data(), nan.data(), out.data(), 1);
        return out;
      });
      CHECK(std::isnan(kept[0]));
    }
  }

  TEST_CASE("gated activation multiplies, on every size") {
    Random random(8);
    for (const std::int64_t n : kSizes) {
      const auto gate = random.floats(n), up = random.floats(n);
      const auto y = agreed([&](const KernelTable& table) {
        std::vector<float> out = gate;  // in place
        table.activate_gated[static_cast<int>(Act::silu)](out.data(), up.data(), out.data(), n);
        return out;
      });
      for (std::size_t i = 0; i < y.size(); ++i) {
        CHECK(std::abs(y[i] - reference(Act::silu, gate[i]) * up[i]) < 1e-6);
      }
    }
  }

  TEST_CASE("rotation turns pairs of the two halves") {
    Random random(9);
    for (const std::int64_t n : {2, 8, 34, 64, 128}) {
      RopeTable rope(n / 2, 1.0, [](std::uint64_t, std::vector<double>& out) {
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::pow(10000.0, -0.07 * double(i));
      });
      rope.reserve(1000);
      const auto x = random.floats(n);
      const RopeRow row = rope.row(777);
      const auto y = agreed([&](const KernelTable& table) {
        std::vector<float> out = x;
        table.rotate(out.data(), row.cos, row.sin, n);
        return out;
      });
      for (std::int64_t i = 0; i < n / 2; ++i) {
        const double angle = 777.0 * static_cast<float>(std::pow(10000.0, -0.07 * double(i)));
        const double a = x[static_cast<std::size_t>(i)], b = x[static_cast<std::size_t>(i + n / 2)];
        CHECK(std::abs(y[static_cast<std::size_t>(i)] -
                       (a * std::cos(angle) - b * std::sin(angle))) < 1e-6);
        CHECK(std::abs(y[static_cast<std::size_t>(i + n / 2)] -
                       (b * std::cos(angle) + a * std::sin(angle))) < 1e-6);
      }
    }
  }

  TEST_CASE("rotary angles stay exact at far positions") {
    RopeTable rope(1, 1.0, [](std::uint64_t, std::vector<double>& out) { out[0] = 1.0; });
    rope.reserve(200'000);
    double worst = 0.0;
    for (std::uint64_t p = 0; p < 200'000; p += 7) {
      const double at = static_cast<double>(p);
      worst = std::max({worst, std::abs(rope.row(p).cos[0] - std::cos(at)),
                        std::abs(rope.row(p).sin[0] - std::sin(at))});
    }
    CHECK(worst < 3.1e-8);  // half a bit of f32
  }

  TEST_CASE("sums add, and round to the nearest bf16") {
    Random random(10);
    for (const std::int64_t n : kSizes) {
      const auto x = random.floats(n), y = random.floats(n);
      const auto sum = agreed([&](const KernelTable& table) {
        std::vector<float> out = x;
        table.add(out.data(), y.data(), n);
        return out;
      });
      const auto rounded = agreed([&](const KernelTable& table) {
        std::vector<float> out = x;
        table.add_round_bf16(out.data(), y.data(), n);
        return out;
      });
      for (std::size_t i = 0; i < sum.size(); ++i) {
        CHECK(sum[i] == x[i] + y[i]);
        CHECK(rounded[i] == bf16_to_f32(f32_to_bf16(x[i] + y[i])));
      }
    }
  }

  TEST_CASE("bf16 conversion rounds as the scalar one does, for every kind of number") {
    std::vector<float> x;
    for (std::uint64_t bits = 0; bits < 1ULL << 32; bits += 65521 * 3) {
      x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    }
    for (const std::uint32_t bits :
         {0x7f800000U, 0xff800000U, 0x7f800001U, 0x7fc00000U, 0xffffffffU, 0x7f7fffffU, 0x00000001U,
          0x80000000U, 0x3f808000U, 0x3f818000U}) {
      x.push_back(std::bit_cast<float>(bits));
    }
    const auto n = static_cast<std::int64_t>(x.size());
    for (const Isa isa : test::usable_isas()) {
      CAPTURE(name(isa));
      std::vector<std::uint16_t> narrow(x.size());
      std::vector<float> wide(x.size());
      kernel_table(isa).narrow_bf16(x.data(), narrow.data(), n);
      kernel_table(isa).widen_bf16(narrow.data(), wide.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i) {
        REQUIRE(narrow[i] == f32_to_bf16(x[i]));
        REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == std::uint32_t{narrow[i]} << 16);
        REQUIRE(std::isnan(wide[i]) == std::isnan(x[i]));
      }
    }
  }

  TEST_CASE("f16 converts both ways, exactly where it can") {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const float wide = f16_to_f32(half);
      if (std::isnan(wide)) {
        CHECK(std::isnan(f16_to_f32(f32_to_f16(wide))));
      } else {
        REQUIRE(f32_to_f16(wide) == half);
      }
    }
    CHECK(f16_to_f32(0x3c00) == 1.0F);
    CHECK(f16_to_f32(0x0001) == 0x1p-24F);
    CHECK(f32_to_f16(65519.0F) == 0x7bff);
    CHECK(f32_to_f16(65520.0F) == 0x7c00);
    CHECK(f32_to_f16(0x1.002p0F) == 0x3c00);  // a tie goes to even
    CHECK(f32_to_f16(0x1.006p0F) == 0x3c02);
    CHECK(f32_to_f16(0x1.8p-25F) == 0x0001);
  }
}

}  // namespace
}  // namespace farmesh::kernels
