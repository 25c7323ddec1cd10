#include "model/stand_in_engine.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh::model {
namespace {

constexpr std::uint32_t kPages = 32;

std::unique_ptr<StageEngine> engine_of(Span blocks) {
  StandInOptions options;
  options.blocks = blocks;
  options.head = true;
  auto engine = make_stand_in_engine(options);
  REQUIRE(engine->reserve_pages(kPages));
  return engine;
}

std::size_t row_bytes(const StageEngine& engine) {
  return engine.info().hidden_size * bytes_of(engine.info().residual);
}

std::vector<std::byte> embed(StageEngine& engine, const std::vector<TokenId>& ids) {
  std::vector<std::byte> rows(ids.size() * row_bytes(engine));
  REQUIRE(engine.embed(ids, rows));
  return rows;
}

/// Runs `rows` at `position` with the pages `first_page`, `first_page` + 1, ….
std::vector<std::byte> run(StageEngine& engine, Span blocks, std::uint32_t position, ByteView rows,
                           std::uint32_t first_page = 0) {
  std::vector<std::uint32_t> pages(kPages - first_page);
  std::iota(pages.begin(), pages.end(), first_page);
  std::vector<std::byte> output(rows.size());
  const SequenceRows sequence{
      pages, position, static_cast<std::uint32_t>(rows.size() / row_bytes(engine)), rows, output};
  REQUIRE(engine.forward(blocks, {&sequence, 1}));
  return output;
}

const std::vector<TokenId> kIds{5, 9, 9, 70, 31, 4, 8, 8, 12};

}  // namespace

TEST_SUITE("model/stand_in_engine") {
  TEST_CASE("rows one by one, in chunks and over a split give the same bytes") {
    const auto whole = engine_of({0, 4});
    const auto input = embed(*whole, kIds);
    const auto expected = run(*whole, {0, 4}, 0, input);

    const auto chunked = engine_of({0, 4});
    std::vector<std::byte> output;
    const std::size_t row = row_bytes(*whole);
    for (const auto& [first, count] : {std::pair{0, 1}, {1, 5}, {6, 3}}) {
      const auto part = run(*chunked, {0, 4}, static_cast<std::uint32_t>(first),
                            ByteView(input).subspan(first * row, count * row), 3);
      output.insert(output.end(), part.begin(), part.end());
    }
    CHECK(output == expected);

    const auto front = engine_of({0, 1});
    const auto back = engine_of({1, 4});
    CHECK(run(*back, {1, 4}, 0, run(*front, {0, 1}, 0, input)) == expected);
  }

  TEST_CASE("any earlier row that is stale, misplaced or doubled changes later outputs") {
    const auto engine = engine_of({0, 4});
    const auto input = embed(*engine, kIds);
    const std::size_t row = row_bytes(*engine);
    const auto last = ByteView(input).last(row);
    const auto good = run(*engine, {0, 4}, 0, input);
    const std::vector<std::byte> expected(good.end() - static_cast<std::ptrdiff_t>(row),
                                          good.end());

    SUBCASE("a stale row") {
      run(*engine, {0, 4}, 2, embed(*engine, {8}));
      CHECK(run(*engine, {0, 4}, 8, last) != expected);
    }
    SUBCASE("a row at another position") { CHECK(run(*engine, {0, 4}, 9, last) != expected); }
    SUBCASE("a cache that was never written") {
      CHECK(run(*engine, {0, 4}, 8, last, 8) != expected);
    }
    SUBCASE("a copied page is as good as the original") {
      REQUIRE(engine->copy_page(0, 20));
      run(*engine, {0, 4}, 0, embed(*engine, {1, 2, 3, 4}));  // spoils page 0
      const std::vector<std::uint32_t> pages{20, 1, 2};
      std::vector<std::byte> output(row);
      const SequenceRows sequence{pages, 8, 1, last, output};
      REQUIRE(engine->forward({0, 4}, {&sequence, 1}));
      CHECK(output == expected);
    }
  }

  TEST_CASE("greedy text wanders over the vocabulary and never chooses a special id") {
    const auto engine = engine_of({0, 4});
    std::vector<TokenId> ids{7};
    for (std::uint32_t position = 0; position < 60; ++position) {
      const auto hidden = run(*engine, {0, 4}, position, embed(*engine, {ids.back()}));
      std::vector<float> logits(engine->info().vocab_size);
      REQUIRE(engine->logits(hidden, 1, logits));
      const auto best = std::max_element(logits.begin(), logits.end());
      ids.push_back(static_cast<TokenId>(best - logits.begin()));
    }
    CHECK(*std::min_element(ids.begin(), ids.end()) >= 3);
    CHECK(std::set<TokenId>(ids.begin(), ids.end()).size() > 25);
  }

  TEST_CASE("ids outside the vocabulary and layers not held are refused") {
    const auto engine = engine_of({2, 4});
    std::vector<std::byte> row(row_bytes(*engine));
    const TokenId outside = 97;
    CHECK(engine->embed({&outside, 1}, row).error().code == Errc::bad_payload);
    CHECK(engine->forward({1, 4}, {}).error().code == Errc::compute_failed);
  }
}

}  // namespace farmesh::model
