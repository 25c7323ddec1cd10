#include "node/capacity.hpp"

#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh::node {
namespace {

/// The shape of Llama-2-7B.
model::ModelConfig llama_7b() {
  model::ModelConfig config;
  config.hidden_size = 4'096;
  config.intermediate_size = 11'008;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 32;
  config.head_dim = 128;
  config.vocab_size = 32'000;
  config.max_position = 4'096;
  return config;
}

CapacityQuestion with_free(double gigabytes) {
  CapacityQuestion question;
  question.free_bytes = static_cast<std::uint64_t>(gigabytes * 1e9);
  question.cache_tokens = 4'096;
  return question;
}

}  // namespace

TEST_SUITE("node/capacity") {
  TEST_CASE("a layer is charged for its weights and for its cache") {
    const MemoryNeeds bf16 =
        memory_needs(llama_7b(), Precision::bf16, KvFormat::bf16, 4'096, false);
    CHECK(bf16.weights_per_layer ==
          2 * (4ull * 4'096 * 4'096 + 3ull * 4'096 * 11'008) + 2 * 4'096 * 4);
    CHECK(bf16.cache_per_layer == 4'096ull * 2 * 4'096 * 2);
    CHECK(bf16.head == 0);
    CHECK(bf16.of(3) == bf16.fixed() + 3 * bf16.per_layer());
    const MemoryNeeds f32 = memory_needs(llama_7b(), Precision::f32, KvFormat::f32, 4'096, true);
    CHECK(f32.cache_per_layer == 2 * bf16.cache_per_layer);
    CHECK(f32.head > 4ull * 2 * 32'000 * 4'096);
    const MemoryNeeds int4 =
        memory_needs(llama_7b(), Precision::int4, KvFormat::bf16, 4'096, false);
    CHECK(int4.weights_per_layer < bf16.weights_per_layer * 9 / 32 + 100'000);
    CHECK(int4.cache_per_layer == bf16.cache_per_layer);
    const MemoryNeeds int8_kv =
        memory_needs(llama_7b(), Precision::bf16, KvFormat::int8, 4'096, false);
    CHECK(int8_kv.cache_per_layer == 4'096ull * (2 * 4'096 + 2 * 5 * 32));  // 5 scales a head
    CHECK(int8_kv.weights_per_layer == bf16.weights_per_layer);
  }

  TEST_CASE("in a cache of half the size, more layers fit beside as many tokens") {
    CapacityQuestion question = with_free(12);
    question.cache_tokens = 65'536;
    question.precision = Precision::int8;
    const auto wide = capacity_of(llama_7b(), question);
    question.kv = KvFormat::int8;
    const auto narrow = capacity_of(llama_7b(), question);
    REQUIRE((wide && narrow));
    CHECK(2 * narrow->layers > 3 * wide->layers);
  }

  TEST_CASE("as many layers as fit, and no more than are wanted or than there are") {
    const auto roomy = capacity_of(llama_7b(), with_free(64));
    REQUIRE(roomy);
    CHECK(roomy->layers == 32);
    CHECK(roomy->precision == Precision::bf16);
    CapacityQuestion few = with_free(64);
    few.max_layers = 7;
    CHECK(capacity_of(llama_7b(), few)->layers == 7);
    CapacityQuestion capped = with_free(64);
    capped.most_bytes = 7'200'000'000;
    CHECK(capacity_of(llama_7b(), capped)->layers == capacity_of(llama_7b(), with_free(8))->layers);
    const auto tight = capacity_of(llama_7b(), with_free(8));
    REQUIRE(tight);
    CHECK(tight->layers < 32);
    CHECK(tight->needs.of(tight->layers) <= 8'000'000'000 * 9 / 10);
    CHECK(tight->needs.of(tight->layers + 1) > 8'000'000'000 * 9 / 10);
  }

  TEST_CASE("where the files' own precision leaves too few layers, a smaller one is taken") {
    const auto small = capacity_of(llama_7b(), with_free(2.4));
    REQUIRE(small);
    CHECK(small->precision == Precision::int8);
    CHECK(small->layers >= 4);
    CapacityQuestion asked = with_free(2.4);
    asked.precision = Precision::bf16;  // then fewer it is
    CHECK(capacity_of(llama_7b(), asked)->precision == Precision::bf16);
    CHECK(capacity_of(llama_7b(), asked)->layers < 4);
    CapacityQuestion tiny = with_free(2.4);
    tiny.max_layers = 1;  // one was wanted, one fits
    CHECK(capacity_of(llama_7b(), tiny)->precision == Precision::bf16);
  }

  TEST_CASE("a node joins with the precision of those who are there") {
    const std::vector<std::string_view> classes{"int4/exact-2/fma", "int4/exact-2/avx512",
                                                "bf16/exact-2/fma", "unheard-of", ""};
    CapacityQuestion question = with_free(64);
    question.classes = classes;
    CHECK(capacity_of(llama_7b(), question)->precision == Precision::int4);
    question.precision = Precision::bf16;
    CHECK(capacity_of(llama_7b(), question)->precision == Precision::bf16);
  }

  TEST_CASE("numerics without quantised weights take none, whatever the others compute in") {
    const std::vector<std::string_view> classes{"int4/exact-2/fma"};
    CapacityQuestion question = with_free(2.4);
    question.classes = classes;
    question.quantised = false;
    const auto few = capacity_of(llama_7b(), question);
    REQUIRE(few);
    CHECK(few->precision == Precision::bf16);
    CHECK(few->layers < 4);
  }

  TEST_CASE("a machine that cannot hold one layer says what one takes") {
    const auto refused = capacity_of(llama_7b(), with_free(0.5));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::out_of_memory);
    CHECK(refused.error().detail.find("one layer in") == 0);
    CHECK(refused.error().detail.find("of 0.50 GB free") != std::string::npos);
    CHECK_FALSE(capacity_of(llama_7b(), with_free(0)));
  }

  TEST_CASE("memory that no system has is not given") {
    CHECK(may_allocate(0));
    CHECK(may_allocate(1 << 20));
    CHECK_FALSE(may_allocate(std::numeric_limits<std::uint64_t>::max() / 2));
  }
}

}  // namespace farmesh::node
