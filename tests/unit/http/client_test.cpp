#include "http/client.hpp"

#include <atomic>
#include <cstdlib>
#include <future>
#include <vector>

#include "unit/http/http_fixture.hpp"

using namespace farmesh;
using namespace farmesh::http;
using namespace farmesh::http::test;

namespace {

ClientOptions direct() {
  ClientOptions options;
  options.proxy_from_environment = false;
  return options;
}

std::string url(const Server& server, const std::string& path) {
  return "http://127.0.0.1:" + std::to_string(server.port()) + path;
}

/// Says `answer` to the first connection, whatever it asks, and closes.
class Impostor {
 public:
  explicit Impostor(std::string answer, bool stays_open = false) {
    listening_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    REQUIRE(::bind(listening_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listening_, 4) == 0);
    ::getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::async(std::launch::async, [this, answer = std::move(answer), stays_open] {
      const int client = ::accept(listening_, nullptr, nullptr);
      char bytes[4096];
      static_cast<void>(!::recv(client, bytes, sizeof(bytes), 0));
      static_cast<void>(!::send(client, answer.data(), answer.size(), MSG_NOSIGNAL));
      if (stays_open) static_cast<void>(!::recv(client, bytes, sizeof(bytes), 0));
      ::close(client);
    });
  }
  ~Impostor() {
    ::shutdown(listening_, SHUT_RDWR);
    thread_.wait();
    ::close(listening_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }

 private:
  int listening_ = -1;
  std::uint16_t port_ = 0;
  std::future<void> thread_;
};

Errc failure_of(const std::string& answer) {
  const Impostor impostor(answer);
  const auto reply = Client(direct()).send({.url = impostor.url()});
  return reply ? Errc::ok : reply.error().code;
}

}  // namespace

TEST_SUITE("http/client") {
  TEST_CASE("many threads share a client, and connections are kept") {
    Router router;
    router.post("/echo", [](const Request& request, Responder responder) {
      responder.send({200, request.body, "text/plain"});
    });
    const auto server = serve(std::move(router));
    Client client(direct());
    std::vector<std::future<bool>> threads;
    for (int t = 0; t < 4; ++t) {
      threads.push_back(std::async(std::launch::async, [&, t] {
        for (int i = 0; i < 25; ++i) {
          const std::string body = std::to_string(t * 100 + i);
          const auto reply = client.send({"POST", url(*server, "/echo"), {}, body});
          if (!reply || reply->status != 200 || reply->body != body) return false;
        }
        return true;
      }));
    }
    for (auto& thread : threads) CHECK(thread.get());
    CHECK(server->stats().connections <= 4);
  }

  TEST_CASE("a body is streamed in pieces, and the reader may stop it") {
    Router router;
    router.get("/big", [](const Request&, Responder responder) {
      responder.send({200, std::string(10'000'000, 'x'), "text/plain"});
    });
    const auto server = serve(std::move(router));
    Client client(direct());
    CHECK(client.send({.url = url(*server, "/big")}).error().code == Errc::frame_too_large);
    std::size_t bytes = 0;
    int status = 0;
    const auto reply = client.stream(
        {.url = url(*server, "/big")},
        [&](const ClientReply& head) {
          status = head.status;
          return true;
        },
        [&](std::string_view piece) {
          bytes += piece.size();
          return true;
        });
    CHECK(reply);
    CHECK(status == 200);
    CHECK(bytes == 10'000'000);
    const auto stopped =
        client.stream({.url = url(*server, "/big")}, {}, [](std::string_view) { return false; });
    CHECK(stopped.error().code == Errc::cancelled);
  }

  TEST_CASE("a call that waits ends when it is cancelled, or when its time is over") {
    std::promise<void> entered, leave;
    const auto left = leave.get_future().share();
    std::atomic<int> calls = 0;
    Router router;
    router.get("/slow", [&, left](const Request&, Responder responder) {
      if (++calls == 1) entered.set_value();
      left.wait();
      responder.json(200, "{}");
    });
    const auto server = serve(std::move(router));
    Client client(direct());
    Cancellation cancellation;
    auto call = std::async(std::launch::async, [&] {
      return client.send({.url = url(*server, "/slow")}, cancellation);
    });
    entered.get_future().wait();
    cancellation.cancel();
    CHECK(call.get().error().code == Errc::cancelled);
    CHECK(client.send({.url = url(*server, "/slow")}, cancellation).error().code ==
          Errc::cancelled);

    ClientOptions hasty = direct();
    hasty.read_timeout = 20ms;
    CHECK(Client(hasty).send({.url = url(*server, "/slow")}).error().code == Errc::timeout);
    hasty.read_timeout = 10s;
    hasty.total_timeout = 20ms;
    CHECK(Client(hasty).send({.url = url(*server, "/slow")}).error().code == Errc::timeout);
    leave.set_value();
  }

  TEST_CASE("redirects are followed when asked, without the secret, and not for ever") {
    Router other_routes;
    other_routes.get("/end", [](const Request& request, Responder responder) {
      const bool told = request.header("Authorization").has_value();
      responder.send({200, told ? "leaked" : "safe", "text/plain"});
    });
    const auto other = serve(std::move(other_routes));
    const std::string there = url(*other, "/end");
    Router router;
    router.get("/away", [there](const Request&, Responder responder) {
      responder.send({302, "moved", "text/plain", {{"Location", there}}});
    });
    router.get("/loop", [](const Request&, Responder responder) {
      responder.send({307, "", "", {{"Location", "loop"}}});
    });
    const auto server = serve(std::move(router));
    CHECK(Client(direct()).send({.url = url(*server, "/away")})->status == 302);
    ClientOptions options = direct();
    options.max_redirects = 3;
    Client client(options);
    const auto reply =
        client.send({"GET", url(*server, "/away"), {{"Authorization", "Bearer secret"}}});
    REQUIRE(reply);
    CHECK(reply->body == "safe");
    CHECK(reply->url == there);
    CHECK(client.send({.url = url(*server, "/loop")}).error().code == Errc::bad_http);
  }

  TEST_CASE("ranges are asked for, Content-Length is the client's own") {
    Router router;
    router.get("/range", [](const Request& request, Responder responder) {
      responder.send({206, std::string(request.header("Range").value_or("")), "text/plain"});
    });
    const auto server = serve(std::move(router));
    ClientRequest request{.url = url(*server, "/range"), .headers = {{"Content-Length", "5"}}};
    request.range_first = 10;
    CHECK(Client(direct()).send(request)->body == "bytes=10-");
    request.range_last = 19;
    CHECK(Client(direct()).send(request)->body == "bytes=10-19");
  }

  TEST_CASE("servers that speak no HTTP, lie or hang up have their own errors") {
    CHECK(failure_of("") == Errc::connection_lost);
    CHECK(failure_of("SSH-2.0-x\r\n\r\n") == Errc::bad_http);
    CHECK(failure_of("HTTP/1.1 200 OK\nX: y\n\n") == Errc::bad_http);
    CHECK(failure_of("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") == Errc::connection_lost);
    CHECK(failure_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") ==
          Errc::bad_http);
    CHECK(failure_of("HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'a')) == Errc::frame_too_large);
    const Impostor until_end("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end");
    CHECK(Client(direct()).send({.url = until_end.url()})->body == "to the end");
  }

  TEST_CASE("what cannot be asked is refused before anything is sent") {
    Client client(direct());
    for (const char* bad : {"", "ftp://x/", "http://x y/"}) {
      CHECK(client.send({.url = bad}).error().code == Errc::invalid_argument);
    }
    CHECK(client.send({"GE T", "http://127.0.0.1:1/"}).error().code == Errc::invalid_argument);
    CHECK(client.send({"GET", "http://127.0.0.1:1/", {{"X", "a\r\nY: b"}}}).error().code ==
          Errc::invalid_argument);
    CHECK(client.send({.url = "http://127.0.0.1:1/"}).error().code == Errc::connection_refused);
  }

  TEST_CASE("the environment's proxy is told the whole URL, or asked for a tunnel") {
    ::unsetenv("no_proxy");
    ::unsetenv("NO_PROXY");
    ::setenv("http_proxy", "http://user:pw@127.0.0.1:1", 1);
    Client client;
    CHECK(client.send({.url = "http://example.org/"}).error().code == Errc::connection_refused);
    const Impostor proxy("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy");
    ::setenv("http_proxy", proxy.url().c_str(), 1);
    const auto reply = client.send({.url = "http://example.org/x"});
    ::setenv("http_proxy", "", 1);
    REQUIRE(reply);
    CHECK(reply->body == "proxy");

    const Impostor refusing("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    ::setenv("https_proxy", refusing.url().c_str(), 1);
    const auto refused = client.send({.url = "https://example.org/x"});
    ::setenv("https_proxy", "socks5://x", 1);
    const auto unknown = client.send({.url = "https://example.org/x"});
    ::unsetenv("https_proxy");
    ::unsetenv("http_proxy");
    CHECK(refused.error().code == Errc::connection_refused);
    CHECK(unknown.error().code == Errc::config_invalid);
  }
}
