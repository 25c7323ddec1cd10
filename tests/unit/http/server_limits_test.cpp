#include <future>
#include <latch>
#include <vector>

#include "unit/http/http_fixture.hpp"

using namespace farmesh;
using namespace farmesh::http;
using namespace farmesh::http::test;

namespace {

Router small_router() {
  Router router;
  router.post("/echo",
              [](const Request& request, Responder responder) {
                responder.send({200, request.body, "text/plain"});
              },
              {.max_body_bytes = 1000});
  router.get("/ok", [](const Request&, Responder responder) { responder.json(200, "{}"); });
  return router;
}

std::string post(std::string_view headers, std::string_view body = "") {
  return "POST /echo HTTP/1.1\r\nHost: x\r\n" + std::string(headers) + "\r\n" + std::string(body);
}

}  // namespace

TEST_SUITE("http/server limits") {
  TEST_CASE("huge heads, URLs and bodies are refused, and the connection ends") {
    const auto server = serve(small_router());
    const auto status = [&](const std::string& request) {
      RawClient client(server->port());
      const int got = status_of(client.ask(request));
      CHECK(client.ended());
      return got;
    };
    CHECK(status(get("/ok", "X: " + std::string(20'000, 'a') + "\r\n")) == 431);
    CHECK(status(get("/" + std::string(20'000, 'a'))) == 414);
    CHECK(status(post("Content-Length: 1001\r\n", std::string(1001, 'a'))) == 413);
    CHECK(status(post("Content-Length: 100000000000\r\n")) == 413);
    CHECK(status(post("Transfer-Encoding: chunked\r\n",
                      "3e9\r\n" + std::string(1001, 'a') + "\r\n0\r\n\r\n")) == 413);
    CHECK(status(post("Expect: 200-maybe\r\nContent-Length: 1\r\n")) == 417);
  }

  TEST_CASE("a smuggled request is never answered") {
    const auto server = serve(small_router());
    RawClient client(server->port());
    const std::string text = client.ask(
        post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" + get("/ok")));
    CHECK(status_of(text) == 400);
    CHECK(text.find("HTTP/1.1", 1) == std::string::npos);
    CHECK(status_of(RawClient(server->port()).ask("GET / HTTP/1.1\nHost: x\n\n")) == 400);
    CHECK(status_of(RawClient(server->port()).ask(get("/%zz"))) == 400);
    CHECK(status_of(RawClient(server->port()).ask(get("/ok?a=%FF"))) == 400);
  }

  TEST_CASE("who sends too slowly or stays idle is cut off") {
    ServerOptions options;
    options.head_timeout = 50ms;
    options.body_timeout = 50ms;
    options.idle_timeout = 50ms;
    const auto server = serve(small_router(), options);
    RawClient idle(server->port()), head(server->port()), body(server->port());
    REQUIRE(head.send("GET /ok HTTP/1.1\r\nHost: x\r\nX: "));
    REQUIRE(body.send(post("Content-Length: 10\r\n", "abc")));
    CHECK(status_of(head.read_to_end()) == 408);
    CHECK(status_of(body.read_to_end()) == 408);
    CHECK(idle.read_to_end().empty());
    CHECK(idle.ended());
    head.close();  // the server reads on for two seconds otherwise, so that its answer arrives
    body.close();
    CHECK(eventually([&] { return server->stats().connections == 0; }));
  }

  TEST_CASE("a slowloris that sends a byte now and then ends all the same") {
    ServerOptions options;
    options.head_timeout = 60ms;
    const auto server = serve(small_router(), options);
    RawClient client(server->port());
    REQUIRE(client.send("GET /ok HTTP/1.1\r\nHost: x\r\n"));
    int sent = 0;
    CHECK(eventually([&] {
      if (server->stats().requests == 1) sent += client.send("X: y\r\n");
      return sent > 0 && server->stats().requests == 0;
    }));
    CHECK(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 408"));
  }

  TEST_CASE("half a request and then the end leaves nothing behind") {
    const auto server = serve(small_router());
    {
      RawClient client(server->port());
      REQUIRE(client.send(post("Content-Length: 10\r\n", "abc")));
      client.end_sending();
      CHECK(status_of(client.read_to_end()) == 400);
    }
    {
      RawClient gone(server->port());
      REQUIRE(gone.send("GET /ok HT"));
    }
    CHECK(eventually([&] { return server->stats().connections == 0; }));
    RawClient half(server->port());
    REQUIRE(half.send(get("/ok")));
    half.end_sending();
    CHECK(status_of(half.read_to_end()) == 200);
  }

  TEST_CASE("connections are bounded, in all and of one address") {
    ServerOptions options;
    options.max_connections_per_address = 2;
    const auto server = serve(small_router(), options);
    RawClient first(server->port()), second(server->port());
    REQUIRE(eventually([&] { return server->stats().connections == 2; }));
    CHECK(status_of(RawClient(server->port()).read_to_end()) == 503);
    CHECK(server->stats().refused_connections == 1);
    first.close();
    REQUIRE(eventually([&] { return server->stats().connections == 1; }));
    CHECK(status_of(RawClient(server->port()).ask(get("/ok", kClose))) == 200);

    options.trusted_proxies = {"127.0.0.1"};
    options.max_connections = 3;
    const auto behind = serve(small_router(), options);
    std::vector<RawClient> clients;
    for (int i = 0; i < 3; ++i) clients.emplace_back(behind->port());
    REQUIRE(eventually([&] { return behind->stats().connections == 3; }));
    CHECK(status_of(RawClient(behind->port()).read_to_end()) == 503);
  }

  TEST_CASE("long requests beyond the limit are told to come back, others go on") {
    std::promise<void> leave;
    const auto left = leave.get_future().share();
    Router router = small_router();
    router.get("/long",
               [left](const Request&, Responder responder) {
                 left.wait();
                 responder.json(200, "{}");
               },
               {.long_running = true});
    ServerOptions options;
    options.max_long_requests = 2;
    const auto server = serve(std::move(router), options);
    RawClient first(server->port()), second(server->port());
    REQUIRE(first.send(get("/long", kClose)));
    REQUIRE(second.send(get("/long", kClose)));
    REQUIRE(eventually([&] { return server->stats().long_requests == 2; }));
    const std::string third = RawClient(server->port()).ask(get("/long", kClose));
    CHECK(status_of(third) == 503);
    CHECK(third.find("Retry-After: 1") != std::string::npos);
    CHECK(status_of(RawClient(server->port()).ask(get("/ok", kClose))) == 200);
    leave.set_value();
    CHECK(status_of(first.read_to_end()) == 200);
    CHECK(status_of(second.read_to_end()) == 200);
  }

  TEST_CASE("bodies of all requests together are bounded") {
    ServerOptions options;
    options.max_body_bytes_in_all = 1500;
    const auto server = serve(small_router(), options);
    RawClient first(server->port());
    REQUIRE(first.send(post("Content-Length: 1000\r\nExpect: 100-continue\r\n")));
    CHECK(first.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
    REQUIRE(first.send(std::string(999, 'a')));
    CHECK(eventually([&] {
      return status_of(RawClient(server->port())
                           .ask(post(kClose + "Content-Length: 1000\r\n",
                                     std::string(1000, 'b')))) == 503;
    }));
    REQUIRE(first.send("a"));
    CHECK(first.read_until("aaa").starts_with("HTTP/1.1 200"));
  }
}
