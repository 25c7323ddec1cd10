#include "driver/page_names.hpp"

#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "wire/messages.hpp"

using namespace farmesh;
using namespace farmesh::driver;

namespace {

const std::vector<std::uint8_t> kKey{1, 2, 3};

std::vector<TokenId> ids_from(TokenId first, std::size_t count) {
  std::vector<TokenId> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

}  // namespace

TEST_SUITE("driver/page_names") {
  TEST_CASE("only full pages have names, and a longer text keeps the names of a shorter one") {
    CHECK(page_names(kKey, ids_from(0, 3), 4).empty());
    const auto two = page_names(kKey, ids_from(0, 11), 4);
    const auto three = page_names(kKey, ids_from(0, 12), 4);
    REQUIRE(two.size() == 2);
    REQUIRE(three.size() == 3);
    CHECK(std::equal(two.begin(), two.end(), three.begin()));
  }

  TEST_CASE("a name stands for everything before its page's end, and for the key") {
    const auto names = page_names(kKey, ids_from(0, 8), 4);
    auto other = ids_from(0, 8);
    other[0] = 99;
    const auto changed = page_names(kKey, other, 4);
    CHECK(names[0] != changed[0]);
    CHECK(names[1] != changed[1]);
    CHECK(names[0] != page_names(std::vector<std::uint8_t>{1, 2, 4}, ids_from(0, 8), 4)[0]);
  }

  TEST_CASE("the first name is HMAC-SHA-256 over 16 zero bytes and the page's ids, cut to 16") {
    std::vector<std::uint8_t> text(16 + 8);
    text[16] = 5;
    text[20] = 1;
    text[21] = 2;
    const auto digest = hmac_sha256(std::as_bytes(std::span(kKey)), std::as_bytes(std::span(text)));
    const auto names = page_names(kKey, std::vector<TokenId>{5, 0x0201}, 2);
    REQUIRE(names.size() == 1);
    CHECK(std::equal(names[0].bytes.begin(), names[0].bytes.end(), digest.begin()));
  }

  TEST_CASE("without a key or a page size nothing is shared, and the count is bounded") {
    CHECK(page_names({}, ids_from(0, 8), 4).empty());
    CHECK(page_names(kKey, ids_from(0, 8), 0).empty());
    CHECK(page_names(kKey, ids_from(0, 9'000), 4).size() == wire::kMaxPageNames);
  }
}
