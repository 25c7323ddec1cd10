#include <memory>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <farmesh/result.hpp>

namespace farmesh {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return {Errc::invalid_argument, "odd"};
  return number / 2;
}

Result<std::unique_ptr<int>> boxed(int number) {
  const Result<int> value = half(number);
  if (!value) return value.error();
  return std::make_unique<int>(*value);
}

Result<void> check(int number) {
  const Result<int> value = half(number);
  if (!value) return value.error();
  return {};
}

}  // namespace

TEST_SUITE("base/result") {
  TEST_CASE("a result holds its value") {
    const Result<int> result = half(4);
    REQUIRE(result);
    CHECK(result.has_value());
    CHECK(*result == 2);
  }

  TEST_CASE("a result holds its error, with code and detail") {
    const Result<int> result = half(3);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::invalid_argument);
    CHECK(result.error().to_string() == "invalid_argument: odd");
  }

  TEST_CASE("an error without detail reads as its name alone") {
    CHECK(Error{Errc::no_route, ""}.to_string() == "no_route");
  }

  TEST_CASE("a value that can only be moved goes in and out") {
    Result<std::unique_ptr<int>> result = boxed(8);
    REQUIRE(result);
    const std::unique_ptr<int> value = *std::move(result);
    CHECK(*value == 4);
  }

  TEST_CASE("an error passes from one result type to another") {
    const Result<std::unique_ptr<int>> result = boxed(5);
    REQUIRE_FALSE(result);
    CHECK(result.error().detail == "odd");
  }

  TEST_CASE("a result without a value is a success until it gets an error") {
    CHECK(check(2));
    CHECK(Result<void>().has_value());
    REQUIRE_FALSE(check(1));
    CHECK(check(1).error().code == Errc::invalid_argument);
  }

  TEST_CASE("members of the value are reached through the result") {
    Result<std::string> result = std::string("hop");
    result->append("s");
    CHECK(result->size() == 4);
    CHECK(std::as_const(result)->front() == 'h');
  }
}

}  // namespace farmesh
