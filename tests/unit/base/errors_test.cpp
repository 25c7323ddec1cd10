// The enumeration, its functions and docs/errors.md tell the same story.
#include <cstdint>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include <farmesh/errors.hpp>

namespace farmesh {
namespace {

constexpr std::uint16_t kHighest = 0xffff;

struct Row {
  std::string name;
  std::string meaning;
  bool another_peer_helps = false;
};

/// The table rows of docs/errors.md: "| 308 | `no_route` | meaning | no |".
std::map<std::uint16_t, Row> documented_errors() {
  std::ifstream file(FARMESH_SOURCE_DIR "/docs/errors.md");
  const std::regex row(R"(\| (\d+) \| `(\w+)` \| (.+) \| (yes|no) \|)");
  std::map<std::uint16_t, Row> rows;
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    const auto number = static_cast<std::uint16_t>(std::stoul(match[1]));
    CHECK_MESSAGE(!rows.contains(number), "two rows for ", number);
    rows[number] = {match[2], match[3], match[4] == "yes"};
  }
  return rows;
}

}  // namespace

TEST_SUITE("base/errors") {
  TEST_CASE("docs/errors.md has one row for every error, and no other") {
    const std::map<std::uint16_t, Row> rows = documented_errors();
    REQUIRE(rows.size() > 1);
    for (std::uint32_t number = 0; number <= kHighest; ++number) {
      const auto code = static_cast<Errc>(number);
      const bool exists = name(code) != "unknown";
      const auto row = rows.find(static_cast<std::uint16_t>(number));
      if ((row != rows.end()) != exists) {
        FAIL_CHECK("error ", number, exists ? " has no row" : " has a row and no enumerator");
      }
      if (!exists || row == rows.end()) continue;
      CHECK(row->second.name == name(code));
      CHECK_MESSAGE(row->second.another_peer_helps == should_reroute(code), name(code));
    }
  }

  TEST_CASE("names are unique") {
    std::set<std::string_view> names;
    for (std::uint32_t number = 0; number <= kHighest; ++number) {
      const std::string_view text = name(static_cast<Errc>(number));
      if (text != "unknown") CHECK_MESSAGE(names.insert(text).second, text);
    }
  }

  TEST_CASE("a number of this version becomes its error, any other becomes remote_unknown") {
    CHECK(errc_from_number(308) == Errc::no_route);
    CHECK(errc_from_number(0) == Errc::ok);
    CHECK(errc_from_number(99) == Errc::remote_unknown);
    CHECK(errc_from_number(kHighest) == Errc::remote_unknown);
  }
}

}  // namespace farmesh
