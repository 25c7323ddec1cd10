// Attention over int8 pages: against what the pages hold, and against what was put in.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/float_formats.hpp"
#include "unit/kernels/attention_fixture.hpp"

namespace farmesh::kernels {
namespace {

using test::Cache;
using test::Random;
using test::Shape;

const std::vector<Shape> kShapes{
    {1, 1, 2, 1, 0, KvFormat::int8},    {4, 4, 16, 40, 0, KvFormat::int8},
    {6, 2, 10, 33, 0, KvFormat::int8},  {14, 1, 24, 50, 0, KvFormat::int8},
    {8, 2, 64, 100, 0, KvFormat::int8}, {4, 2, 80, 70, 7, KvFormat::int8},
    {3, 3, 18, 90, 33, KvFormat::int8}, {16, 1, 128, 48, 1, KvFormat::int8},
    {32, 4, 34, 65, 0, KvFormat::int8}, {2, 1, 256, 20, 0, KvFormat::int8}};

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// One number of a page as it lies there, and half of its step: what rounding may have moved it.
struct Stored {
  float number, half_step;
};

float scale_at(const std::byte* scales, std::int64_t index) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, scales + 2 * index, sizeof bits);
  return bf16_to_f32(bits);
}

/// Component d of a position's key in one kv head, read as kernel_table.hpp lays it down.
Stored key_in(const Cache& cache, std::int64_t position, std::int64_t head, std::int64_t d) {
  const std::int64_t dim = cache.view.head_dim;
  const std::int64_t slot = position % kLanes;
  const std::byte* block = cache.key_bytes.data() +
                           cache.pages[at(position / kLanes)] * cache.view.key_page_bytes() +
                           head * key_block_bytes(KvFormat::int8, dim);
  const auto byte = std::to_integer<int>(block[d / 4 * 64 + slot * 4 + d % 4]);
  const float scale = scale_at(block + (dim + 31) / 32 * 512, d / 32 * kLanes + slot);
  return {static_cast<float>(byte - 128) * scale, scale / 2};
}

Stored value_in(const Cache& cache, std::int64_t position, std::int64_t head, std::int64_t d) {
  const std::int64_t dim = cache.view.head_dim;
  const std::int64_t slot = position % kLanes;
  const std::uint32_t page = cache.pages[at(position / kLanes)];
  const std::byte* keys = cache.key_bytes.data() + page * cache.view.key_page_bytes() +
                          head * key_block_bytes(KvFormat::int8, dim);
  const std::byte* block = cache.value_bytes.data() + page * cache.view.value_page_bytes() +
                           head * value_block_bytes(KvFormat::int8, dim);
  const std::int64_t groups = (dim + 31) / 32;
  const float scale = scale_at(keys + groups * 512, groups * kLanes + slot);
  const auto byte = std::to_integer<std::uint8_t>(block[slot * ((dim + 15) / 16 * 16) + d]);
  return {static_cast<float>(static_cast<std::int8_t>(byte)) * scale, scale / 2};
}

/// Every key and value of the cache as it lies in the pages.
struct Contents {
  std::vector<float> keys, values, key_half_steps, value_half_steps;

  Contents(const Cache& cache, const Shape& shape) {
    for (std::int64_t p = 0; p < shape.length; ++p) {
      for (std::int64_t i = 0; i < shape.kv_heads * shape.head_dim; ++i) {
        const Stored key = key_in(cache, p, i / shape.head_dim, i % shape.head_dim);
        const Stored value = value_in(cache, p, i / shape.head_dim, i % shape.head_dim);
        keys.push_back(key.number);
        key_half_steps.push_back(key.half_step);
        values.push_back(value.number);
        value_half_steps.push_back(value.half_step);
      }
    }
  }
};

/// Queries rounded to a 127th of the largest of each 32 of a head, and half of that.
struct RoundedQueries {
  std::vector<float> numbers, half_steps;

  RoundedQueries(const std::vector<float>& q, std::int64_t head_dim) : numbers(q), half_steps(q) {
    for (std::size_t head = 0; head < q.size(); head += at(head_dim)) {
      for (std::size_t begin = head; begin < head + at(head_dim); begin += 32) {
        const std::size_t end = std::min(begin + 32, head + at(head_dim));
        float top = 0.0F;
        for (std::size_t i = begin; i < end; ++i) top = std::max(top, std::abs(q[i]));
        for (std::size_t i = begin; i < end; ++i) {
          const double steps = double{q[i]} * double{127.0F / top};
          numbers[i] = static_cast<float>(std::nearbyint(steps)) * (top / 127.0F);
          half_steps[i] = top / 254.0F;
        }
      }
    }
  }
};

/// How far rounding may move the outputs of one row and head: e^2x - 1 of the largest value, where
/// x is what it may have moved a score, and half a step of the values.
double bound(const Shape& s, const Cache& cache, const Contents& in, const std::vector<float>& q,
             const RoundedQueries& rounded, std::int64_t row, std::int64_t head) {
  const std::int64_t kv = s.kv_heads * s.head_dim;
  const std::int64_t shared = head / (s.heads / s.kv_heads) * s.head_dim;
  double score = 0.0, value = 0.0, half_step = 0.0;
  for (std::int64_t p = s.window > 0 ? std::max<std::int64_t>(0, row + 1 - s.window) : 0; p <= row;
       ++p) {
    double moved = 0.0;
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      const std::size_t i = at((row * s.heads + head) * s.head_dim + d);
      const std::size_t j = at(p * kv + shared + d);
      const double of_key = in.key_half_steps[j], of_query = rounded.half_steps[i];
      moved += std::abs(q[i]) * of_key + std::abs(cache.keys[j]) * of_query + of_key * of_query;
      value = std::max(value, double{std::abs(cache.values[j])});
      half_step = std::max(half_step, double{in.value_half_steps[j]});
    }
    score = std::max(score, moved * double{s.scale});
  }
  return std::expm1(2 * score) * value + half_step + 5e-6;
}

struct Differences {
  double worst = 0.0;   // of a difference
  double rms = 0.0;     // relative to the outputs' own
  bool bounded = true;  // each by bound()
};

TEST_SUITE("kernels/attention_int8") {
  TEST_CASE("what lies in a page is within half a step of what was put there") {
    Random random(7);
    for (const Shape& shape : kShapes) {
      Cache cache(random, shape);
      cache.fill(shape.length);
      const Contents in(cache, shape);
      for (std::size_t i = 0; i < in.keys.size(); ++i) {
        const double slack = 1 + 254 * 2 * 0x1p-24;  // up to 127 steps, counted in f32
        CHECK(std::abs(in.keys[i] - cache.keys[i]) <= in.key_half_steps[i] * slack);
        CHECK(std::abs(in.values[i] - cache.values[i]) <= in.value_half_steps[i] * slack);
      }
    }
  }

  TEST_CASE("attention agrees with a sum in double over what the pages hold") {
    Random random(8);
    ThreadPool pool(2);
    for (const Shape& shape : kShapes) {
      Cache cache(random, shape);
      const auto q = random.floats(shape.length * shape.heads * shape.head_dim);
      cache.fill(shape.length);
      const Contents in(cache, shape);
      const RoundedQueries rounded(q, shape.head_dim);
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        const auto out = cache.attend_rows(pool, isa, q, 0, shape.length);
        double worst = 0.0;
        for (std::int64_t row = 0; row < shape.length; ++row) {
          const auto expected =
              test::plain_attention(shape, in.keys, in.values, rounded.numbers, row);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            const double got = out[at(row) * expected.size() + i];
            worst = std::isnan(got) ? INFINITY : std::max(worst, std::abs(got - expected[i]));
          }
        }
        CHECK(worst < 5e-6);
      }
    }
  }

  TEST_CASE("attention is as near to that over the exact keys and values as the steps allow") {
    Random random(9);
    ThreadPool pool(2);
    for (Shape shape : kShapes) {
      shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));  // as models have it
      Cache cache(random, shape);
      const auto q = random.floats(shape.length * shape.heads * shape.head_dim);
      cache.fill(shape.length);
      const Contents in(cache, shape);
      const RoundedQueries rounded(q, shape.head_dim);
      const auto out = cache.attend_rows(pool, Isa::portable, q, 0, shape.length);
      Differences found;
      double differences = 0.0, outputs = 0.0;
      for (std::int64_t row = 0; row < shape.length; ++row) {
        const auto exact = test::plain_attention(shape, cache.keys, cache.values, q, row);
        for (std::size_t i = 0; i < exact.size(); ++i) {
          const double moved = std::abs(out[at(row) * exact.size() + i] - exact[i]);
          const auto head = static_cast<std::int64_t>(i) / shape.head_dim;
          found.worst = std::max(found.worst, moved);
          found.bounded = found.bounded && moved <= bound(shape, cache, in, q, rounded, row, head);
          differences += moved * moved;
          outputs += exact[i] * exact[i];
        }
      }
      found.rms = std::sqrt(differences / outputs);
      CAPTURE(shape.head_dim);
      CAPTURE(found.worst);
      CHECK(found.bounded);
      CHECK(found.rms < 0.02);
    }
  }

  TEST_CASE("pages hold the same bytes whichever instruction set wrote them") {
    Random random(10);
    for (const Shape& shape : kShapes) {
      Cache cache(random, shape);
      const float edges[] = {0.0F,
                             -0.0F,
                             1e-42F,
                             -1e-31F,
                             1e-30F,
                             3e38F,
                             -3e38F,
                             std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::quiet_NaN(),
                             0.5F};
      for (std::size_t i = 0; i < cache.keys.size(); i += 3) {
        cache.keys[i] = edges[i % std::size(edges)];
        cache.values[i] = edges[(i + 4) % std::size(edges)];
      }
      cache.fill(shape.length);
      const auto keys = cache.key_bytes, values = cache.value_bytes;
      for (const Isa isa : test::usable_isas()) {
        CAPTURE(name(isa));
        std::fill(cache.key_bytes.begin(), cache.key_bytes.end(), std::byte{255});
        std::fill(cache.value_bytes.begin(), cache.value_bytes.end(), std::byte{255});
        cache.fill(shape.length, isa);
        CHECK(cache.key_bytes == keys);
        CHECK(cache.value_bytes == values);
      }
    }
  }

  TEST_CASE("an infinite or missing number makes NaN of those who see it, and of nobody else") {
    const Shape shape{4, 2, 40, 30, 0, KvFormat::int8};
    constexpr std::int64_t kPosition = 11;
    Random random(11);
    ThreadPool pool(2);
    for (const float bad :
         {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
          std::numeric_limits<float>::quiet_NaN()}) {
      for (const bool in_key : {true, false}) {
        Cache cache(random, shape);
        const auto q = random.floats(shape.length * shape.heads * shape.head_dim);
        cache.fill(shape.length);
        const auto clean = cache.attend_rows(pool, Isa::portable, q, 0, shape.length);
        (in_key ? cache.keys : cache.values)[at((kPosition * 2 + 1) * shape.head_dim + 35)] = bad;
        cache.fill(shape.length);
        for (const Isa isa : test::usable_isas()) {
          CAPTURE(name(isa));
          const auto out = cache.attend_rows(pool, isa, q, 0, shape.length);
          bool as_expected = true;
          for (std::size_t i = 0; i < out.size(); ++i) {
            const auto head = static_cast<std::int64_t>(i) / shape.head_dim % shape.heads;
            const auto row = static_cast<std::int64_t>(i) / shape.head_dim / shape.heads;
            const bool sees = head >= 2 && row >= kPosition;
            as_expected = as_expected && (sees ? std::isnan(out[i]) : out[i] == clean[i]);
          }
          CHECK(as_expected);
        }
      }
    }
  }

  TEST_CASE("keys of zeros and of one sign, and a query of zeros, are no trouble") {
    const Shape shape{2, 1, 64, 17, 0, KvFormat::int8};
    Random random(12);
    ThreadPool pool(1);
    Cache cache(random, shape);
    std::fill(cache.keys.begin(), cache.keys.end(), 0.0F);
    std::fill(cache.values.begin(), cache.values.end(), -3.0F);
    cache.fill(shape.length);
    const std::vector<float> q(at(shape.length * 128), 0.0F);
    for (const float out : cache.attend_rows(pool, Isa::portable, q, 0, shape.length)) {
      CHECK(out == doctest::Approx(-3.0).epsilon(0.004));
    }
  }

  TEST_CASE("one large component costs its own group of keys alone") {
    const Shape shape{1, 1, 128, 16, 0, KvFormat::int8};
    Random random(13);
    Cache cache(random, shape);
    for (std::int64_t p = 0; p < shape.length; ++p) cache.keys[at(p * 128 + 40)] = 100.0F;
    cache.fill(shape.length);
    const Contents in(cache, shape);
    for (std::size_t i = 0; i < in.keys.size(); ++i) {
      const bool beside = i % 128 / 32 == 1;
      CHECK(in.key_half_steps[i] < (beside ? 0.4F : 0.02F));
    }
  }

  TEST_CASE("a page of int8 takes little more than half of one of bf16") {
    for (const std::int64_t head_dim : {64, 96, 128, 256}) {
      CacheView view{KvFormat::bf16, nullptr, nullptr, 4, head_dim};
      const std::int64_t wide = view.key_page_bytes() + view.value_page_bytes();
      view.format = KvFormat::int8;
      CHECK(20 * (view.key_page_bytes() + view.value_page_bytes()) <= 11 * wide);
      CHECK(view.key_page_bytes() % 64 == 0);
    }
  }
}

}  // namespace
}  // namespace farmesh::kernels
