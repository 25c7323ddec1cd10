#include <fstream>

#include <doctest/doctest.h>

#include "gateway/model_host.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::gateway {

TEST_SUITE("gateway/prices") {
  TEST_CASE("a file gives models prices of their own, exactly or not at all") {
    const test::TempDir folder;
    const std::string file = folder.path() / "prices.json";
    const auto read = [&file](const std::string& text) {
      std::ofstream(file) << text;
      return read_prices(file);
    };
    const auto prices =
        read(R"({"org/a":{"price":"0.001","prompt_price":"0.00000001"},"b":{"price":"0"}})");
    REQUIRE(prices);
    CHECK(prices->at("org/a").token == *Far::parse("0.001"));
    CHECK(prices->at("org/a").prompt_token == Far::from_units(1));
    CHECK(prices->at("b").token.is_zero());
    for (const char* wrong :
         {"", "[]", R"({"a":"0.1"})", R"({"a":{}})", R"({"a":{"price":0.1}})",
          R"({"a":{"price":"-1"}})", R"({"a":{"price":"0.000000001"}})", R"({"a":{"price":"1e3"}})",
          R"({"a":{"price":"1000.1"}})", R"({"a":{"price":"1","other":"2"}})",
          R"({"a":{"price":"1","prompt_price":2}})"}) {
      INFO(wrong);
      CHECK_FALSE(read(wrong));
    }
    CHECK_FALSE(read_prices(folder.path() / "absent.json"));
  }
}

}  // namespace farmesh::gateway
