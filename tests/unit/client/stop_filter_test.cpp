#include "client/stop_filter.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh::client {
namespace {

// The whole output, fed as `pieces`.
std::string filtered(StopFilter filter, const std::vector<std::string>& pieces) {
  std::string shown;
  for (const std::string& piece : pieces) {
    const StopFilter::Piece out = filter.push(piece);
    shown += out.text;
    if (out.stopped) return shown + "|";
  }
  return shown + filter.flush();
}

// What must come out, found the plain way: the stop string that is complete first cuts.
std::string expected(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return text.substr(0, end - longest) + "|";
  }
  return text;
}

}  // namespace

TEST_SUITE("client/stop_filter") {
  TEST_CASE("text without stop strings passes at once") {
    StopFilter filter({});
    CHECK(filter.push("any").text == "any");
    CHECK(filter.flush().empty());
  }

  TEST_CASE("the beginning of a stop string is held back until the next text decides") {
    StopFilter filter({"END"});
    CHECK(filter.push("the E").text == "the ");
    CHECK(filter.push("N").text.empty());
    CHECK(filter.push("T").text == "ENT");
    CHECK(filter.push("EN").text.empty());
    const StopFilter::Piece last = filter.push("D and more");
    CHECK(last.text.empty());
    CHECK(last.stopped);
  }

  TEST_CASE("what was held back is shown when the text ends without the stop string") {
    CHECK(filtered(StopFilter({"\n\n"}), {"a\n", "b\n"}) == "a\nb\n");
  }

  TEST_CASE("the stop string that is complete first counts, the longer of two that end together") {
    CHECK(filtered(StopFilter({"cd", "abc"}), {"xabcd"}) == "x|");
    CHECK(filtered(StopFilter({"abcdef", "cd"}), {"xabcdef"}) == "xab|");
    CHECK(filtered(StopFilter({"cd", "bcd"}), {"xabcd"}) == "xa|");
  }

  TEST_CASE("a stop string that overlaps itself is found across any cut") {
    CHECK(filtered(StopFilter({"aab"}), {"a", "a", "a", "b", "c"}) == "a|");
  }

  TEST_CASE("random texts in random pieces are cut where the plain search cuts them") {
    std::mt19937 random(20261123);
    for (int round = 0; round < 2'000; ++round) {
      std::vector<std::string> stops;
      for (unsigned i = 0; i < 1 + random() % 3; ++i) {
        std::string stop;
        for (unsigned n = 0; n < 1 + random() % 4; ++n) stop += char('a' + random() % 3);
        stops.push_back(stop);
      }
      std::string text;
      std::vector<std::string> pieces;
      for (unsigned i = 0; i < random() % 12; ++i) {
        std::string piece;
        for (unsigned n = 0; n < random() % 4; ++n) piece += char('a' + random() % 3);
        text += piece;
        pieces.push_back(piece);
      }
      INFO("text ", text, ", first stop ", stops[0]);
      REQUIRE(filtered(StopFilter(stops), pieces) == expected(text, stops));
    }
  }

  TEST_CASE("empty, overlong and too many stop strings are refused") {
    CHECK(StopFilter::check({"\n", "User:"}));
    CHECK(StopFilter::check({""}).error().code == Errc::invalid_argument);
    CHECK(StopFilter::check({std::string(kMaxStopBytes + 1, 'x')}).error().code ==
          Errc::invalid_argument);
    CHECK(StopFilter::check(std::vector<std::string>(kMaxStops + 1, "x")).error().code ==
          Errc::invalid_argument);
  }
}

}  // namespace farmesh::client
