// An Rpc over real HTTP to a server on loopback.
#include "evm/http_post.hpp"

#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "http/server.hpp"

namespace farmesh::evm {
namespace {

using Json = nlohmann::json;

std::unique_ptr<http::Server> chain_server() {
  http::Router router;
  router.post("/rpc", [](const http::Request& request, http::Responder responder) {
    const Json question = Json::parse(request.body, nullptr, false);
    const bool is_chain = question["method"] == "eth_chainId";
    const Json reply = {
        {"jsonrpc", "2.0"}, {"id", question["id"]}, {"result", is_chain ? "0x7a69" : "0x2a"}};
    responder.json(200, reply.dump());
  });
  Result<std::unique_ptr<http::Server>> server = http::Server::start(std::move(router), {});
  REQUIRE(server);
  return *std::move(server);
}

Rpc rpc_to(std::vector<std::string> endpoints, const http::Cancellation& cancellation = {}) {
  RpcOptions options;
  options.endpoints = std::move(endpoints);
  options.chain_id = 31'337;
  return Rpc(std::move(options), http_post(cancellation));
}

std::string url_of(const http::Server& server, const std::string& path) {
  return "http://127.0.0.1:" + std::to_string(server.port()) + path;
}

}  // namespace

TEST_SUITE("evm/http_post") {
  TEST_CASE("questions go over HTTP, and a dead or wrong endpoint is passed over") {
    const auto server = chain_server();
    Rpc rpc = rpc_to({"http://127.0.0.1:1/", url_of(*server, "/elsewhere"), "not a URL",
                      url_of(*server, "/rpc")});
    const Result<std::uint64_t> number = rpc.block_number();
    REQUIRE_MESSAGE(number, number.error().to_string());
    CHECK(*number == 42);
  }

  TEST_CASE("a cancelled program's questions end") {
    const auto server = chain_server();
    http::Cancellation cancellation;
    cancellation.cancel();
    Rpc rpc = rpc_to({url_of(*server, "/rpc")}, cancellation);
    const Result<std::uint64_t> number = rpc.block_number();
    REQUIRE_FALSE(number);
    CHECK(number.error().code == Errc::cancelled);
  }
}

}  // namespace farmesh::evm
