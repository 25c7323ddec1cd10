#include "net/rate_book.hpp"

#include <doctest/doctest.h>

namespace farmesh::net {
namespace {

using namespace std::chrono_literals;

}  // namespace

TEST_SUITE("net/rate_book") {
  TEST_CASE("each name has a burst, then so many a second") {
    RateBook book({2, 0.5});
    const TimePoint now{1h};
    CHECK(book.take("a", now));
    CHECK(book.take("a", now));
    CHECK_FALSE(book.take("a", now));
    CHECK(book.take("b", now));
    CHECK_FALSE(book.take("a", now + 1s));
    CHECK(book.take("a", now + 2s));
    CHECK_FALSE(book.take("a", now + 2s));
    CHECK(book.take("a", now + 1h));
    CHECK(book.take("a", now + 1h));
    CHECK_FALSE(book.take("a", now + 1h));
  }

  TEST_CASE(
      "names are forgotten when they are whole, and nobody new may while there are too many") {
    RateBook book({1, 1}, 2);
    const TimePoint now{1h};
    CHECK(book.take("a", now));
    CHECK(book.take("b", now));
    CHECK_FALSE(book.take("c", now));
    CHECK(book.take("c", now + 1s));
    CHECK_FALSE(book.take("c", now + 1s));
  }
}

}  // namespace farmesh::net
