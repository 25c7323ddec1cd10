#include "cli/rival.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh::cli {
namespace {

const std::string kTable =
    "loading …\n"
    "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |\n"
    "|-------|--------|------|--------|----------|----------|----------|----------|----------|\n"
    "|    32 |     32 |    8 |    512 |    1.600 |   160.00 |    2.560 |   100.00 |    4.160 |\n"
    "|    32 |     32 |   32 |   2048 |    8.000 |   128.00 |   12.000 |    85.33 |   20.000 |\n";

}  // namespace

TEST_SUITE("cli/rival") {
  TEST_CASE("a rival is a name, a program and its first arguments") {
    const Result<Rival> rival = parse_rival("other=/opt/other/bench  -rtr --mlock");
    REQUIRE(rival);
    CHECK(rival->name == "other");
    CHECK(rival->command == std::vector<std::string>{"/opt/other/bench", "-rtr", "--mlock"});
    for (const char* bad : {"", "=", "other", "other=", "other=  ", "=/opt/bench"}) {
      CAPTURE(bad);
      CHECK(parse_rival(bad).error().code == Errc::invalid_argument);
    }
  }

  TEST_CASE("the row of the load that was asked for is read out of a table") {
    const Result<RivalSpeed> eight = read_rival_table(kTable, {8, 32, 32});
    REQUIRE(eight);
    CHECK(eight->prefill == doctest::Approx(160));
    CHECK(eight->decode == doctest::Approx(100));
    CHECK(eight->generated == doctest::Approx(8 * 32 / 4.16));
    const Result<RivalSpeed> many = read_rival_table(kTable, {32, 32, 32});
    REQUIRE(many);
    CHECK(many->decode == doctest::Approx(85.33));
  }

  TEST_CASE("a table without the load, cut off, or with speeds that are none is refused") {
    CHECK(read_rival_table(kTable, {16, 32, 32}).error().code == Errc::bad_payload);
    CHECK(read_rival_table("", {}).error().code == Errc::bad_payload);
    CHECK(read_rival_table("| 32 | 32 | 8 | 512 | 1.6", {8, 32, 32}).error().code ==
          Errc::bad_payload);
    for (const char* bad : {"nan", "inf", "0", "-1", "1e999"}) {
      CAPTURE(bad);
      const std::string row = std::string("| 1 | 1 | 1 | 2 | 0.1 | ") + bad + " | 0.1 | 10 |";
      CHECK(read_rival_table(row, {1, 1, 1}).error().code == Errc::bad_payload);
    }
  }
}

}  // namespace farmesh::cli
