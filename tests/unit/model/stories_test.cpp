// The engine on a trained checkpoint whose logits and greedy text are known from two other
// implementations, cut, chunked, batched and threaded in every way.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include <doctest/doctest.h>

#include "unit/model/engine_fixture.hpp"

namespace farmesh::model {
namespace {

using test::Bytes;
using test::Chain;
using test::WithEnvironment;

const std::vector<TokenId> kPrompt{1, 403, 407, 261, 378};
const std::vector<TokenId> kStory{1,   403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315,
                                  421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419,
                                  292, 411, 322, 265, 282, 295, 433, 426, 385, 328, 432, 358,
                                  394, 261, 370, 432, 352, 266, 268, 388, 426, 338, 391, 266,
                                  267, 337, 335, 312, 432, 398, 312, 286, 267, 414, 270, 333};

constexpr Precision kPrecisions[] = {Precision::f32, Precision::bf16, Precision::int8,
                                     Precision::int4};

/// What weights and cache are kept in.
struct Kept {
  Precision weights;
  KvFormat kv;
};

/// Every precision with its own cache and with an int8 one.
std::vector<Kept> all_kinds() {
  std::vector<Kept> kinds;
  for (const Precision precision : kPrecisions) {
    kinds.push_back({precision, usual_kv(precision)});
    kinds.push_back({precision, KvFormat::int8});
  }
  return kinds;
}

/// Null, having said so, where the checkpoint is absent.
std::shared_ptr<const ModelFolder> stories() {
  const std::filesystem::path folder = FARMESH_SOURCE_DIR "/../shared/models/stories260K";
  if (!std::filesystem::exists(folder)) {
    MESSAGE("skipped: ../shared/models/stories260K is absent");
    return nullptr;
  }
  Result<std::shared_ptr<const ModelFolder>> opened = ModelFolder::open(folder);
  REQUIRE(opened);
  return *opened;
}

EngineOptions exact(Precision precision = Precision::f32, int threads = 2) {
  EngineOptions options;
  options.precision = precision;
  options.threads = threads;
  return options;
}

EngineOptions exact(Kept kept, int threads = 2) {
  EngineOptions options = exact(kept.weights, threads);
  options.kv = kept.kv;
  return options;
}

std::vector<Span> split(std::initializer_list<std::uint32_t> cuts) {
  std::vector<Span> spans;
  std::uint32_t begin = 0;
  for (const std::uint32_t end : cuts) {
    spans.push_back({begin, end});
    begin = end;
  }
  return spans;
}

/// Mean surprise at the story's ids, in nats, each given those before it; and how many of them are
/// the likeliest.
struct Foresight {
  double surprise = 0.0;
  int likeliest = 0;
};
Foresight foresight(const ModelFolder& folder, const EngineOptions& options) {
  Chain chain(folder.config(), folder, split({5}), options);
  const Bytes hidden = chain.run({{kStory, 0, test::pages_from(0, 4)}})[0];
  Foresight found;
  for (std::size_t i = 0; i + 1 < kStory.size(); ++i) {
    const auto row = hidden.begin() + static_cast<std::ptrdiff_t>(i * chain.row_bytes());
    const auto logits = chain.logits({row, row + static_cast<std::ptrdiff_t>(chain.row_bytes())});
    double all = 0.0;
    for (const float logit : logits) all += std::exp(double{logit} - logits[kStory[i + 1]]);
    found.surprise += std::log(all) / static_cast<double>(kStory.size() - 1);
    if (test::argmax(logits) == kStory[i + 1]) ++found.likeliest;
  }
  return found;
}

/// Hidden states of the whole story, put in `chunk` ids at a time, one after the other.
Bytes states(Chain& chain, std::size_t chunk, std::uint32_t first_page = 0) {
  Bytes all;
  for (std::size_t at = 0; at < kStory.size(); at += chunk) {
    const auto end = std::min(kStory.size(), at + chunk);
    const Bytes part = chain.run({{{kStory.begin() + static_cast<std::ptrdiff_t>(at),
                                    kStory.begin() + static_cast<std::ptrdiff_t>(end)},
                                   static_cast<std::uint32_t>(at),
                                   test::pages_from(first_page, 4)}})[0];
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TEST_SUITE("model/stories") {
  TEST_CASE("the first logits are those of two other implementations") {
    const auto folder = stories();
    if (!folder) return;
    Chain chain(folder->config(), *folder, split({5}), exact());
    const auto logits = chain.logits(chain.run({{kPrompt, 0, {0}}})[0]);
    const std::vector<std::pair<TokenId, float>> top{
        {432, 17.7994F}, {383, 14.2813F}, {322, 9.7097F}, {353, 9.5873F}, {323, 9.1342F}};
    for (const auto& [id, logit] : top) CHECK(std::abs(logits[id] - logit) < 1e-4);
    CHECK(std::count_if(logits.begin(), logits.end(), [](float x) { return x >= 9.134F; }) == 5);
  }

  TEST_CASE("greedy text is the same however the layers are split") {
    const auto folder = stories();
    if (!folder) return;
    for (const auto& spans :
         {split({5}), split({2, 5}), split({1, 3, 5}), split({1, 2, 3, 4, 5})}) {
      Chain chain(folder->config(), *folder, spans, exact());
      CHECK(test::greedy(chain, kPrompt, kStory.size(), 5, test::pages_from(0, 4)) == kStory);
    }
  }

  TEST_CASE("hidden states keep every bit in chunks of any size, on any threads and ISA") {
    const auto folder = stories();
    if (!folder) return;
    for (const Kept kept : all_kinds()) {
      CAPTURE(name(kept.weights));
      CAPTURE(name(kept.kv));
      Chain reference(folder->config(), *folder, split({5}), exact(kept, 1));
      const Bytes expected = states(reference, kStory.size());
      for (std::size_t chunk = 1; chunk < kStory.size(); ++chunk) {
        CHECK_MESSAGE(states(reference, chunk, 8) == expected, "chunk " << chunk);
      }
      for (int threads = 2; threads <= 4; ++threads) {
        Chain chain(folder->config(), *folder, split({3, 5}), exact(kept, threads));
        CHECK_MESSAGE(states(chain, 7) == expected, threads << " threads");
      }
      for (const char* isa : {"portable", "avx2", "avx512", "avx512vnni", "avx512bf16"}) {
        const WithEnvironment forced("FARMESH_ISA", isa);
        test::find_engine_library();
        EngineOptions options = exact(kept);
        options.blocks = {0, 1};
        const auto possible = load_engine(folder->config(), *folder, options);
        if (!possible) {
          MESSAGE("skipped: " << possible.error().to_string());
          continue;
        }
        Chain chain(folder->config(), *folder, split({5}), options);
        CHECK_MESSAGE(states(chain, 13) == expected, isa);
      }
    }
  }

  TEST_CASE("narrow weights foresee the story about as well as exact ones") {
    const auto folder = stories();
    if (!folder) return;
    const Foresight f32 = foresight(*folder, exact(Precision::f32));
    const Foresight bf16 = foresight(*folder, exact(Precision::bf16));
    const Foresight int8 = foresight(*folder, exact(Precision::int8));
    const Foresight int4 = foresight(*folder, exact(Precision::int4));
    MESSAGE("nats a token: f32 " << f32.surprise << ", bf16 " << bf16.surprise << ", int8 "
                                 << int8.surprise << ", int4 " << int4.surprise);
    MESSAGE("likeliest of 59: " << f32.likeliest << " " << bf16.likeliest << " " << int8.likeliest
                                << " " << int4.likeliest);
    CHECK(std::abs(bf16.surprise - f32.surprise) < 0.02);
    CHECK(std::abs(int8.surprise - f32.surprise) < 0.03);
    CHECK(int4.surprise < f32.surprise + 0.3);
    CHECK(int8.likeliest >= f32.likeliest - 1);
  }

  TEST_CASE("with an int8 cache the story is foreseen about as well, in every split the same") {
    const auto folder = stories();
    if (!folder) return;
    for (const Precision precision : kPrecisions) {
      CAPTURE(name(precision));
      const Foresight usual = foresight(*folder, exact(precision));
      const Foresight narrow = foresight(*folder, exact({precision, KvFormat::int8}));
      MESSAGE(name(precision) << ": nats a token " << usual.surprise
                              << ", with int8 keys and values " << narrow.surprise);
      CHECK(std::abs(narrow.surprise - usual.surprise) < 0.03);
      std::vector<TokenId> text;
      for (const auto& spans : {split({5}), split({2, 5}), split({1, 2, 3, 4, 5})}) {
        Chain chain(folder->config(), *folder, spans, exact({precision, KvFormat::int8}));
        const auto told = test::greedy(chain, kPrompt, kStory.size(), 3, test::pages_from(0, 4));
        if (text.empty()) text = told;
        CHECK(told == text);
      }
      if (precision == Precision::f32) {  // nothing else is rounded: the exact weights' own words
        text.resize(45);
        CHECK(text == std::vector<TokenId>(kStory.begin(), kStory.begin() + 45));
      }
    }
  }

  TEST_CASE("sixteen sessions in one batch compute what each computes alone") {
    const auto folder = stories();
    if (!folder) return;
    for (const Kept kept : all_kinds()) {
      Chain chain(folder->config(), *folder, split({5}), exact(kept));
      const Bytes alone = states(chain, kStory.size());
      const std::size_t row = chain.row_bytes();
      // Session s holds the story's first s + 1 ids, then all take the next ids together.
      std::vector<Chain::Step> first, next;
      for (std::uint32_t s = 0; s < 16; ++s) {
        const auto at = static_cast<std::ptrdiff_t>(s + 1);
        const auto pages = test::pages_from(s * 4, 4);
        first.push_back({{kStory.begin(), kStory.begin() + at}, 0, pages});
        const std::ptrdiff_t count = 1 + s % 3;
        next.push_back({{kStory.begin() + at, kStory.begin() + at + count}, s + 1, pages});
      }
      chain.run(first);
      const std::vector<Bytes> together = chain.run(next);
      for (std::size_t s = 0; s < 16; ++s) {
        const auto from = alone.begin() + static_cast<std::ptrdiff_t>((s + 1) * row);
        CHECK(std::equal(together[s].begin(), together[s].end(), from));
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::model
