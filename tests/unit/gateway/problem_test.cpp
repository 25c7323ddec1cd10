#include "gateway/problem.hpp"

#include <doctest/doctest.h>

namespace farmesh::gateway {

TEST_SUITE("gateway/problem") {
  TEST_CASE("an error of the library has a status and a stable code") {
    CHECK(problem_of({Errc::context_exceeded, "600 tokens"}).status == 400);
    CHECK(problem_of({Errc::context_exceeded, "600 tokens"}).code == "context_length_exceeded");
    CHECK(problem_of({Errc::no_route, ""}).status == 503);
    CHECK(problem_of({Errc::busy, ""}).retry_after_s > 0);
    CHECK(problem_of({Errc::timeout, ""}).status == 504);
    CHECK(problem_of({Errc::compute_failed, ""}).status == 500);
  }

  TEST_CASE("what is not the client's fault names no peer and no file") {
    for (const Errc code : {Errc::no_route, Errc::timeout, Errc::io_error}) {
      const Problem problem = problem_of({code, "10.0.0.7:31330 and /var/lib"});
      CHECK(problem.message.find("10.0.0.7") == std::string::npos);
      CHECK(problem.message.find("/var") == std::string::npos);
    }
  }

  TEST_CASE("the error object has OpenAI's four fields") {
    CHECK(openai_error(invalid_request("invalid_type", "Wrong.", "n")) ==
          R"({"error":{"message":"Wrong.","type":"invalid_request_error","param":"n",)"
          R"("code":"invalid_type"}})");
    CHECK(openai_error({500, "io_error", "x", ""}) ==
          R"({"error":{"message":"x","type":"server_error","param":null,"code":"io_error"}})");
  }
}

}  // namespace farmesh::gateway
