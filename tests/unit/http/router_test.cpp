#include "http/router.hpp"

#include <doctest/doctest.h>

using namespace farmesh::http;

namespace {

void nothing(const Request&, Responder) {}

std::string found(const Router& router, std::string_view method, std::string_view path) {
  const auto match = router.match(method, path);
  if (match.route == nullptr) return match.allowed.empty() ? "404" : "405 " + match.allowed;
  std::string text = match.route->pattern;
  for (const auto& [name, value] : match.parameters) text += " " + name + "=" + value;
  return match.undecodable ? "400" : text;
}

}  // namespace

TEST_SUITE("http/router") {
  TEST_CASE("the most specific pattern answers, whatever the order they came in") {
    Router router;
    router.get("/models/{id*}", nothing);
    router.get("/models/{id}", nothing);
    router.get("/models/active", nothing);
    router.get("/models/{id*}/nodes", nothing);
    CHECK(found(router, "GET", "/models/active") == "/models/active");
    CHECK(found(router, "GET", "/models/x") == "/models/{id} id=x");
    CHECK(found(router, "GET", "/models/a/b") == "/models/{id*} id=a/b");
    CHECK(found(router, "GET", "/models/a/b/nodes") == "/models/{id*}/nodes id=a/b");
    CHECK(found(router, "GET", "/models") == "404");
    CHECK(found(router, "GET", "/models/") == "404");
  }

  TEST_CASE("a model's name comes with raw slashes or with %2F") {
    Router router;
    router.get("/v1/models/{model_id*}", nothing);
    CHECK(found(router, "GET", "/v1/models/meta-llama/Llama-2") ==
          "/v1/models/{model_id*} model_id=meta-llama/Llama-2");
    CHECK(found(router, "GET", "/v1/models/meta-llama%2FLlama-2") ==
          "/v1/models/{model_id*} model_id=meta-llama/Llama-2");
    CHECK(found(router, "GET", "/v1/models/%FF") == "400");
  }

  TEST_CASE("other methods are told, HEAD is GET") {
    Router router;
    router.get("/a", nothing);
    router.post("/a", nothing);
    CHECK(found(router, "HEAD", "/a") == "/a");
    CHECK(found(router, "PUT", "/a").starts_with("405 "));
    const std::string allowed = router.match("PUT", "/a").allowed;
    for (const char* method : {"GET", "HEAD", "POST", "OPTIONS"}) {
      CHECK(allowed.find(method) != std::string::npos);
    }
  }
}
