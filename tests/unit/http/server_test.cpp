#include "http/server.hpp"

#include <atomic>
#include <future>
#include <mutex>
#include <stdexcept>

#include "unit/http/http_fixture.hpp"

using namespace farmesh;
using namespace farmesh::http;
using namespace farmesh::http::test;

namespace {

Router echo_router() {
  Router router;
  router.get("/hello", [](const Request& request, Responder responder) {
    responder.json(200,
                   "{\"name\":\"" + std::string(request.query.get("name").value_or("")) + "\"}");
  });
  router.post("/echo", [](const Request& request, Responder responder) {
    responder.send({200, request.body, "text/plain"});
  });
  router.get("/throws", [](const Request&, Responder) { throw std::runtime_error("a bug"); });
  router.get("/silent", [](const Request&, Responder) {});
  router.get("/who", [](const Request& request, Responder responder) {
    responder.send({200, request.remote_address + " " + request.id, "text/plain"});
  });
  router.get("/headers", [](const Request&, Responder responder) {
    responder.send({200, "x", "text/plain", {{"X-Evil", "a\r\nSet-Cookie: b"}}});
  });
  return router;
}

}  // namespace

TEST_SUITE("http/server") {
  TEST_CASE("a request is answered, with its length, date and request id") {
    const auto server = serve(echo_router());
    const std::string text = RawClient(server->port()).ask(get("/hello?name=you", kClose));
    CHECK(status_of(text) == 200);
    CHECK(body_of(text) == "{\"name\":\"you\"}");
    for (const char* header : {"Content-Type: application/json\r\n", "Content-Length: 14\r\n",
                               "Date: ", "X-Request-Id: ", "Connection: close\r\n"}) {
      CHECK(text.find(header) != std::string::npos);
    }
  }

  TEST_CASE("a connection carries one request after another, pipelined or not") {
    const auto server = serve(echo_router());
    RawClient client(server->port());
    std::string all;
    for (int i = 0; i < 20; ++i) {
      all += "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n" + std::to_string(10 + i);
    }
    REQUIRE(client.send(all));
    for (int i = 0; i < 20; ++i) {
      CHECK(client.read_until("\r\n\r\n" + std::to_string(10 + i)).starts_with("HTTP/1.1 200"));
    }
    REQUIRE(client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    REQUIRE(client.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
    CHECK(client.read_until("abcde").find("Content-Length: 5") != std::string::npos);
    CHECK(status_of(client.ask(get("/hello", kClose))) == 200);
    CHECK(client.ended());
  }

  TEST_CASE("HEAD has GET's headers and no body, 1.0 closes after the answer") {
    const auto server = serve(echo_router());
    const std::string head =
        RawClient(server->port())
            .ask("HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK(head.find("Content-Length: 11") != std::string::npos);
    CHECK(body_of(head).empty());
    CHECK(body_of(RawClient(server->port()).ask("GET /hello HTTP/1.0\r\n\r\n")) ==
          "{\"name\":\"\"}");
  }

  TEST_CASE("unknown paths and methods are told apart") {
    const auto server = serve(echo_router());
    CHECK(status_of(RawClient(server->port()).ask(get("/nothing", kClose))) == 404);
    const std::string text = RawClient(server->port()).ask(get("/echo", kClose));
    CHECK(status_of(text) == 405);
    CHECK(text.find("Allow: POST, OPTIONS") != std::string::npos);
    CHECK(body_of(text) ==
          "{\"error\":\"the path has other methods\",\"code\":\"method_not_allowed\"}");
  }

  TEST_CASE("refusals have the shape that the owner gives them") {
    ServerOptions options;
    options.render = [](const Problem& problem, std::string_view path) {
      return Reply{problem.status, std::string(path) + "!" + problem.code, "text/plain"};
    };
    const auto server = serve(echo_router(), options);
    CHECK(body_of(RawClient(server->port()).ask(get("/nothing", kClose))) == "/nothing!not_found");
  }

  TEST_CASE("a handler that throws or forgets to answer becomes a 500") {
    const auto server = serve(echo_router());
    for (const char* path : {"/throws", "/silent"}) {
      const std::string text = RawClient(server->port()).ask(get(path, kClose));
      CHECK(status_of(text) == 500);
      CHECK(text.find("a bug") == std::string::npos);
    }
  }

  TEST_CASE("a header's value cannot begin another header") {
    const auto server = serve(echo_router());
    const std::string text = RawClient(server->port()).ask(get("/headers", kClose));
    CHECK(text.find("\r\nSet-Cookie") == std::string::npos);
    CHECK(text.find("X-Evil: a  Set-Cookie: b\r\n") != std::string::npos);
  }

  TEST_CASE("who asks is told by trusted proxies only") {
    ServerOptions options;
    const auto direct = serve(echo_router(), options);
    const std::string forwarded = kClose + "X-Forwarded-For: 9.9.9.9\r\nX-Request-Id: abc.1\r\n";
    CHECK(body_of(RawClient(direct->port()).ask(get("/who", forwarded))) == "127.0.0.1 abc.1");
    options.trusted_proxies = {"127.0.0.0/8"};
    const auto behind = serve(echo_router(), options);
    CHECK(body_of(RawClient(behind->port()).ask(get("/who", forwarded))) == "9.9.9.9 abc.1");
    const std::string odd = kClose + "X-Request-Id: a b\r\n";
    CHECK(body_of(RawClient(direct->port()).ask(get("/who", odd))).find("a b") ==
          std::string::npos);
  }

  TEST_CASE("browsers of allowed origins may ask, others are told nothing") {
    ServerOptions options;
    options.cors.allowed_origins = {"https://app.example"};
    const auto server = serve(echo_router(), options);
    const std::string preflight =
        "OPTIONS /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccess-Control-Request-Method: "
        "POST\r\n"
        "Access-Control-Request-Headers: authorization\r\nOrigin: https://";
    const std::string good = RawClient(server->port()).ask(preflight + "app.example\r\n\r\n");
    CHECK(status_of(good) == 204);
    CHECK(good.find("Access-Control-Allow-Origin: https://app.example\r\nVary: Origin") !=
          std::string::npos);
    CHECK(good.find("Access-Control-Allow-Methods: POST, OPTIONS") != std::string::npos);
    CHECK(good.find("Access-Control-Allow-Headers: authorization") != std::string::npos);
    const std::string bad = RawClient(server->port()).ask(preflight + "evil.example\r\n\r\n");
    CHECK(bad.find("Access-Control") == std::string::npos);
    CHECK(bad.find("Allow: POST, OPTIONS") != std::string::npos);
  }

  TEST_CASE("100-continue is answered before the body is sent") {
    const auto server = serve(echo_router());
    RawClient client(server->port());
    REQUIRE(client.send(
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    CHECK(client.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
    REQUIRE(client.send("ok"));
    CHECK(client.read_until("\r\n\r\nok").starts_with("HTTP/1.1 200"));
  }

  TEST_CASE("each answer is reported once, with its route and status") {
    std::mutex mutex;
    std::vector<std::string> seen;
    ServerOptions options;
    options.on_finished = [&](const Finished& finished) {
      const std::lock_guard lock(mutex);
      seen.push_back(std::string(finished.method) + " " + std::string(finished.route) + " " +
                     std::to_string(finished.status));
    };
    const auto server = serve(echo_router(), options);
    RawClient(server->port()).ask(get("/hello?name=x", kClose));
    RawClient(server->port()).ask(get("/nothing", kClose));
    CHECK(eventually([&] {
      const std::lock_guard lock(mutex);
      return seen.size() == 2;
    }));
    const std::lock_guard lock(mutex);
    CHECK(seen == std::vector<std::string>{"GET /hello 200", "GET  404"});
  }

  TEST_CASE("draining lets running requests finish and refuses new connections") {
    std::promise<void> entered, leave;
    Router router = echo_router();
    router.get("/slow", [&](const Request&, Responder responder) {
      entered.set_value();
      leave.get_future().wait();
      responder.send({200, "done", "text/plain"});
    });
    const auto server = serve(std::move(router));
    RawClient idle(server->port()), busy(server->port());
    REQUIRE(busy.send(get("/slow")));
    entered.get_future().wait();
    auto drained = std::async(std::launch::async, [&] { server->drain(10s); });
    CHECK(idle.read_to_end().empty());  // closed at once
    leave.set_value();
    const std::string text = busy.read_to_end();
    CHECK(body_of(text) == "done");
    CHECK(server->draining());
    busy.close();
    drained.wait();
    CHECK(server->stats().connections == 0);
  }

  TEST_CASE("draining cuts off what does not end in time, and tells its handler") {
    std::promise<void> told;
    Router router;
    router.get("/forever",
               [&](const Request&, Responder responder) {
                 responder.on_close([&] { told.set_value(); });
                 told.get_future().wait();
                 CHECK(responder.closed());
               },
               {.long_running = true});
    const auto server = serve(std::move(router));
    RawClient client(server->port());
    REQUIRE(client.send(get("/forever")));
    REQUIRE(eventually([&] { return server->stats().long_requests == 1; }));
    server->drain(0ms);
    CHECK(server->stats().connections == 0);
    CHECK(client.read_to_end().empty());
  }

  TEST_CASE("a server can end while a connection comes in") {
    for (int i = 0; i < 50; ++i) {
      auto server = serve(echo_router());
      RawClient client(server->port());
      server.reset();
      CHECK(client.ask(get("/hello")).empty());
    }
  }

  TEST_CASE("what cannot be listened at is told") {
    const auto server = serve(echo_router());
    ServerOptions options;
    options.port = server->port();
    CHECK(Server::start(echo_router(), options).error().code == Errc::io_error);
    options.address = "localhost";
    CHECK(Server::start(echo_router(), options).error().code == Errc::address_invalid);
    options.address = "127.0.0.1";
    options.cert_file = "/nowhere.pem";
    CHECK(Server::start(echo_router(), options).error().code == Errc::config_invalid);
    options.cert_file.clear();
    options.trusted_proxies = {"nonsense"};
    CHECK(Server::start(echo_router(), options).error().code == Errc::config_invalid);
  }
}
