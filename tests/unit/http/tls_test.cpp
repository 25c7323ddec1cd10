#include <future>
#include <vector>

#include "http/client.hpp"
#include "unit/http/certificate.hpp"
#include "unit/http/http_fixture.hpp"

using namespace farmesh;
using namespace farmesh::http;
using namespace farmesh::http::test;

namespace {

struct SecureServer {
  explicit SecureServer(const char* names = "DNS:localhost,IP:127.0.0.1") : certificate(names) {
    Router router;
    router.post("/echo",
                [](const Request& request, Responder responder) {
                  responder.send({200, request.body, "text/plain"});
                },
                {.max_body_bytes = 4 * 1024 * 1024});
    router.get("/events", [](const Request&, Responder responder) {
      EventStream stream = responder.events();
      for (int i = 0; i < 100; ++i) stream.write({std::to_string(i)});
      stream.end();
    });
    ServerOptions options;
    options.cert_file = certificate.cert_file();
    options.key_file = certificate.key_file();
    options.head_timeout = 200ms;
    server = serve(std::move(router), options);
  }
  std::string url(const std::string& path, const std::string& host = "127.0.0.1") const {
    return "https://" + host + ":" + std::to_string(server->port()) + path;
  }
  ClientOptions trusting() const {
    ClientOptions options;
    options.ca_file = certificate.cert_file();
    options.proxy_from_environment = false;
    options.connect_timeout = 60s;
    return options;
  }

  Certificate certificate;
  std::unique_ptr<Server> server;
};

}  // namespace

TEST_SUITE("http/tls") {
  TEST_CASE("requests, big bodies and streams go through TLS") {
    const SecureServer secure;
    Client client(secure.trusting());
    const std::string body(3 * 1024 * 1024, 'b');
    for (int i = 0; i < 2; ++i) {
      const auto reply = client.send({"POST", secure.url("/echo"), {}, body});
      REQUIRE_MESSAGE(reply, reply.error().to_string());
      CHECK(reply->body == body);
    }
    CHECK(secure.server->stats().connections == 1);  // kept alive
    const auto events = client.send({.url = secure.url("/events")});
    REQUIRE(events);
    CHECK(events->body.find("data: 99\n\n") != std::string::npos);
  }

  TEST_CASE("a certificate that nobody vouches for is refused") {
    const SecureServer secure;
    ClientOptions options = secure.trusting();
    options.ca_file.clear();
    const auto reply = Client(options).send({.url = secure.url("/events")});
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code == Errc::tls_failed);
  }

  TEST_CASE("a certificate of another name is refused") {
    const SecureServer secure("DNS:example.org");
    const auto reply = Client(secure.trusting()).send({.url = secure.url("/events")});
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code == Errc::tls_failed);
  }

  TEST_CASE("who does not speak TLS, or never finishes its handshake, is cut off") {
    const SecureServer secure;
    CHECK(status_of(RawClient(secure.server->port()).ask(get("/events"))) == 0);
    RawClient silent(secure.server->port());
    REQUIRE(silent.send("\x16\x03\x01"));
    CHECK(silent.read_to_end().empty());
    CHECK(eventually([&] { return secure.server->stats().connections == 0; }));
  }
}
