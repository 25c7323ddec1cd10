#include <cstdint>
#include <limits>

#include <doctest/doctest.h>

#include <farmesh/money.hpp>

namespace farmesh {

TEST_SUITE("ledger/money") {
  TEST_CASE("text and units are the same amount both ways") {
    struct Case {
      const char* text;
      std::int64_t units;
    };
    for (const Case& each : {Case{"0", 0},
                             {"0.0001", 10'000},
                             {"0.00000001", 1},
                             {"1", 100'000'000},
                             {"-0.5", -50'000'000},
                             {"92233720368.54775807", INT64_MAX},
                             {"-92233720368.54775808", INT64_MIN}}) {
      CAPTURE(each.text);
      const auto amount = Far::parse(each.text);
      REQUIRE(amount);
      CHECK(amount->units() == each.units);
      CHECK(amount->to_string() == each.text);
    }
    CHECK(Far::parse("0.05120000")->to_string() == "0.0512");
    CHECK(Far::parse("0.0170")->to_string(4) == "0.0170");
    CHECK(Far::parse("3")->to_string(2) == "3.00");
  }

  TEST_CASE("text that is not exactly an amount is refused") {
    for (const char* text : {"", "-", ".", ".5", "1.", "1e3", "+1", " 1", "1 ", "01", "0x1", "1,5",
                             "0.000000001", "--1", "NaN", "92233720368.54775808",
                             "-92233720368.54775809", "99999999999999999999", "1.2.3"}) {
      CAPTURE(text);
      CHECK_FALSE(Far::parse(text));
    }
    CHECK_FALSE(Far::parse(std::string_view("1\0", 2)));
  }

  TEST_CASE("what does not fit is nothing") {
    const Far most = Far::from_units(std::numeric_limits<std::int64_t>::max());
    const Far least = Far::from_units(std::numeric_limits<std::int64_t>::min());
    CHECK_FALSE(most.plus(Far::from_units(1)));
    CHECK_FALSE(least.minus(Far::from_units(1)));
    CHECK_FALSE(most.times(2));
    CHECK_FALSE(Far().minus(least));
    CHECK(Far::from_units(10'000).times(512)->to_string() == "0.0512");
  }
}

}  // namespace farmesh
