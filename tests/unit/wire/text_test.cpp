#include "wire/text.hpp"

#include <doctest/doctest.h>

namespace farmesh::wire {

TEST_SUITE("wire/text") {
  TEST_CASE("text in any script is printable") {
    CHECK(is_printable(""));
    CHECK(is_printable("plain ASCII ~"));
    CHECK(is_printable("Grüße, Привет, 你好, नमस्ते, 🌍"));
    CHECK(is_printable("\xc2\xa0"));          // U+00A0, the first after C1
    CHECK(is_printable("\xf4\x8f\xbf\xbf"));  // U+10FFFF, the last
  }

  TEST_CASE("controls and malformed UTF-8 are not") {
    for (const std::string_view bad :
         {std::string_view("\0", 1), std::string_view("\n"), std::string_view("\x1b"),
          std::string_view("\x7f"), std::string_view("\xc2\x85"),  // a C1 control
          std::string_view("\x80"), std::string_view("\xc3"), std::string_view("\xc3("),
          std::string_view("\xc0\xaf"), std::string_view("\xe0\x80\xaf"),          // overlong
          std::string_view("\xf0\x80\x80\xaf"), std::string_view("\xed\xa0\x80"),  // surrogate
          std::string_view("\xf4\x90\x80\x80"), std::string_view("\xff"),
          std::string_view("\xe4\xbd")}) {
      CHECK_FALSE(is_printable(bad));
      CHECK_FALSE(is_printable("a" + std::string(bad) + "b"));
    }
  }

  TEST_CASE("making text printable keeps what is and marks the rest") {
    CHECK(printable("a\tb", 10) == "a?b");
    CHECK(printable("\xff\xfe", 10) == "??");
    CHECK(printable("né", 10) == "né");
    CHECK(printable("n\xc3", 10) == "n?");
  }

  TEST_CASE("text is cut between characters") {
    CHECK(printable("abc", 2) == "ab");
    CHECK(printable("né", 2) == "n");
    CHECK(printable("né", 3) == "né");
    CHECK(printable("🌍", 3) == "");
  }
}

}  // namespace farmesh::wire
