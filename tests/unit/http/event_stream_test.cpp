#include <future>
#include <vector>

#include "http/client.hpp"
#include "http/event_parser.hpp"
#include "unit/http/http_fixture.hpp"

using namespace farmesh;
using namespace farmesh::http;
using namespace farmesh::http::test;

namespace {

constexpr RouteOptions kLong{.long_running = true};

/// The events of a whole text/event-stream.
std::vector<ReceivedEvent> events_of(std::string_view text, std::size_t step = 1) {
  std::vector<ReceivedEvent> events;
  EventParser parser([&](const ReceivedEvent& event) {
    events.push_back(event);
    return true;
  });
  for (std::size_t i = 0; i < text.size(); i += step) CHECK(parser.feed(text.substr(i, step)));
  return events;
}

}  // namespace

TEST_SUITE("http/event_stream") {
  TEST_CASE("events arrive with their names, ids and line breaks") {
    Router router;
    router.get(
        "/events",
        [](const Request&, Responder responder) {
          EventStream stream = responder.events({{"X-Extra", "1"}});
          CHECK(stream.write({"one"}) == Written::yes);
          CHECK(stream.write({"a\nb\r\nc", "na\nme", "7"}) == Written::yes);
          CHECK(stream.comment("nothing") == Written::yes);
          CHECK(stream.write({"", "done"}) == Written::yes);
          stream.end();
          CHECK(stream.write({"late"}) == Written::closed);
        },
        kLong);
    const auto server = serve(std::move(router));
    ClientOptions direct;
    direct.proxy_from_environment = false;
    Client client(direct);
    const auto reply =
        client.send({.url = "http://127.0.0.1:" + std::to_string(server->port()) + "/events"});
    REQUIRE(reply);
    CHECK(reply->headers.get("content-type") == "text/event-stream");
    CHECK(reply->headers.get("x-extra") == "1");
    for (const std::size_t step : {std::size_t{1}, std::size_t{7}, reply->body.size()}) {
      const auto events = events_of(reply->body, step);
      REQUIRE(events.size() == 3);
      CHECK(events[0].data == "one");
      CHECK(events[0].name == "message");
      CHECK(events[1].data == "a\nb\nc");
      CHECK(events[1].name == "name");
      CHECK(events[2].id == "7");
      CHECK(events[2].data.empty());
    }
  }

  TEST_CASE("after a stream the connection takes the next request") {
    Router router;
    router.get("/events", [](const Request&, Responder responder) {
      EventStream stream = responder.events();
      stream.write({"x"});
      stream.end();
    });
    const auto server = serve(std::move(router));
    RawClient client(server->port());
    for (int i = 0; i < 3; ++i) {
      REQUIRE(client.send(get("/events")));
      CHECK(client.read_until("0\r\n\r\n").find("data: x\n\n") != std::string::npos);
    }
    CHECK(body_of(RawClient(server->port()).ask("GET /events HTTP/1.0\r\n\r\n")) == "data: x\n\n");
  }

  TEST_CASE("a client that hangs up is noticed within a moment, though nothing is written") {
    std::promise<void> told;
    Router router;
    router.get(
        "/events",
        [&](const Request&, Responder responder) {
          responder.on_close([&] { told.set_value(); });
          EventStream stream = responder.events();
          stream.write({"x"});
          told.get_future().wait();
          CHECK(stream.closed());
          CHECK(stream.write({"y"}) == Written::closed);
        },
        kLong);
    const auto server = serve(std::move(router));
    {
      RawClient client(server->port());
      REQUIRE(client.send(get("/events")));
      CHECK(client.read_until("data: x\n\n").ends_with("data: x\n\n"));
    }
    CHECK(eventually([&] { return server->stats().long_requests == 0; }));
    CHECK(eventually([&] { return server->stats().connections == 0; }));
  }

  TEST_CASE("a client that never reads holds its writer, within bounds, and is then cut off") {
    std::promise<std::size_t> written;
    std::promise<Written> tried;
    ServerOptions options;
    options.write_timeout = 100ms;
    options.max_queued_bytes = 16 * 1024;
    Router router;
    router.get(
        "/events",
        [&](const Request&, Responder responder) {
          EventStream stream = responder.events();
          const std::string data(1000, 'x');
          std::size_t bytes = 0;
          Written last = Written::yes;
          while ((last = stream.try_write({data})) == Written::yes) {
            CHECK(stream.queued_bytes() < 18 * 1024);
            bytes += data.size();
          }
          tried.set_value(last);
          while (stream.write({data}) == Written::yes) bytes += data.size();
          CHECK(stream.closed());
          written.set_value(bytes);
        },
        kLong);
    const auto server = serve(std::move(router), options);
    RawClient client(server->port(), 4096);
    REQUIRE(client.send(get("/events")));
    CHECK(tried.get_future().get() == Written::queue_full);
    CHECK(written.get_future().get() < 4 * 1024 * 1024);  // the kernel's buffers, mostly
    CHECK(eventually([&] { return server->stats().connections == 0; }));
  }

  TEST_CASE("a silent stream gets comments, so that proxies keep it") {
    std::promise<void> leave;
    ServerOptions options;
    options.comment_interval = 20ms;
    Router router;
    router.get(
        "/events",
        [&](const Request&, Responder responder) {
          EventStream stream = responder.events();
          leave.get_future().wait();
          stream.end();
        },
        kLong);
    const auto server = serve(std::move(router), options);
    RawClient client(server->port());
    REQUIRE(client.send(get("/events", kClose)));
    CHECK(client.read_until("3\r\n:\n\n\r\n").ends_with("3\r\n:\n\n\r\n"));
    CHECK(client.read_until("3\r\n:\n\n\r\n").ends_with("3\r\n:\n\n\r\n"));
    leave.set_value();
    CHECK(client.read_to_end().ends_with("0\r\n\r\n"));
  }

  TEST_CASE("a stream that its handler drops is cut, not completed") {
    Router router;
    router.get("/events", [](const Request&, Responder responder) {
      EventStream stream = responder.events();
      stream.write({"x"});
    });
    const auto server = serve(std::move(router));
    const std::string text = RawClient(server->port()).ask(get("/events"));
    CHECK(text.find("data: x") != std::string::npos);
    CHECK_FALSE(text.ends_with("0\r\n\r\n"));
  }

  TEST_CASE("a stream may be written to from a thread other than the handler's") {
    std::promise<EventStream> handed;
    Router router;
    router.get("/events",
               [&](const Request&, Responder responder) { handed.set_value(responder.events()); });
    const auto server = serve(std::move(router));
    RawClient client(server->port());
    REQUIRE(client.send(get("/events", kClose)));
    EventStream stream = handed.get_future().get();
    CHECK(stream.write({"from afar"}) == Written::yes);
    stream.end();
    CHECK(client.read_to_end().find("data: from afar\n\n") != std::string::npos);
  }

  TEST_CASE("200 streams at once each get all of their events in order") {
    constexpr int kStreams = 200, kEvents = 50;
    Router router;
    router.get(
        "/events/{name}",
        [](const Request& request, Responder responder) {
          EventStream stream = responder.events();
          for (int i = 0; i < kEvents; ++i) {
            stream.write({std::string(request.parameter("name")) + ":" + std::to_string(i)});
          }
          stream.end();
        },
        kLong);
    const auto server = serve(std::move(router));
    std::vector<RawClient> clients;
    for (int i = 0; i < kStreams; ++i) {
      clients.emplace_back(server->port());
      REQUIRE(clients.back().send(get("/events/s" + std::to_string(i), kClose)));
    }
    for (int i = 0; i < kStreams; ++i) {
      const std::string text = clients[static_cast<std::size_t>(i)].read_to_end();
      std::size_t at = 0;
      for (int k = 0; k < kEvents && at != std::string::npos; ++k) {
        at = text.find("data: s" + std::to_string(i) + ":" + std::to_string(k) + "\n\n", at);
      }
      CHECK(at != std::string::npos);
      CHECK(text.ends_with("0\r\n\r\n"));
    }
  }
}

TEST_SUITE("http/event_parser") {
  TEST_CASE("comments and unknown fields are skipped, CR, LF and CR LF end lines") {
    const auto events = events_of(": c\r\nretry: 5\r\ndata:a\rdata: b\n\ndata\r\n\r\nid: 3\n\n");
    REQUIRE(events.size() == 2);
    CHECK(events[0].data == "a\nb");
    CHECK(events[1].data.empty());
  }

  TEST_CASE("a reader may stop, and an endless event is refused") {
    EventParser stops([](const ReceivedEvent&) { return false; });
    CHECK(stops.feed("data: x\n\n").error().code == Errc::cancelled);
    EventParser bounded([](const ReceivedEvent&) { return true; }, 100);
    CHECK(bounded.feed("data: " + std::string(200, 'x')).error().code == Errc::frame_too_large);
  }
}
