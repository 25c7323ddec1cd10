#include "http/message_head.hpp"

#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::http;

namespace {

/// The status of the refusal, 0 when the head is read, -1 when it is not complete.
int outcome(std::string_view text) {
  HeadScanner scanner;
  switch (scanner.scan(text)) {
    case HeadScanner::Found::more: return -1;
    case HeadScanner::Found::malformed: return 400;
    case HeadScanner::Found::complete: break;
  }
  RequestHead head;
  const auto problem = read_request_head(text.substr(0, scanner.size()), {}, head);
  return problem ? problem->status : 0;
}

std::string with(std::string_view headers) {
  return "POST /x HTTP/1.1\r\nHost: a\r\n" + std::string(headers) + "\r\n";
}

/// The body that `text` holds, or why there is none; fed `step` bytes at a time.
std::string read_body(Framing framing, std::string_view text, std::size_t step) {
  BodyReader body(framing);
  std::string waiting, data;
  for (std::size_t i = 0; i < text.size() && !body.complete(); i += step) {
    waiting += text.substr(i, step);
    for (;;) {
      const auto piece = body.next(waiting);
      if (body.malformed()) return "malformed";
      if (piece.consumed == 0) break;
      data += piece.data;
      waiting.erase(0, piece.consumed);
    }
  }
  return body.complete() ? data : "incomplete";
}

}  // namespace

TEST_SUITE("http/message_head") {
  TEST_CASE("a sound head gives its parts") {
    const std::string text =
        "POST /v1?x=1 HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 12\r\nX-Y:  z \r\n\r\n";
    RequestHead head;
    REQUIRE_FALSE(read_request_head(text, {}, head));
    CHECK(head.method == "POST");
    CHECK(head.target == "/v1?x=1");
    CHECK(head.keep_alive);
    CHECK(head.headers.get("x-y") == "z");
    CHECK(head.framing.kind == Framing::Kind::length);
    CHECK(head.framing.length == 12);
  }

  TEST_CASE("whatever two programs could read differently is refused") {
    const std::vector<std::string> smuggled = {
        with("Content-Length: 3\r\nContent-Length: 4\r\n"),
        with("Content-Length: 3\r\nContent-Length: 3\r\n"),
        with("Content-Length: 3, 3\r\n"),
        with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: gzip, chunked\r\n"),
        with("Transfer-Encoding: chunked, identity\r\n"),
        with("Transfer-Encoding: xchunked\r\n"),
        with("Transfer-Encoding: \"chunked\"\r\n"),
        with("Transfer-Encoding:\x0b chunked\r\n"),
        with("Transfer-Encoding\r\n : chunked\r\n"),
        with("Transfer-Encoding : chunked\r\n"),
        with("Content-Length : 3\r\n"),
        with("Content-Length: +3\r\n"),
        with("Content-Length: -3\r\n"),
        with("Content-Length: 0x3\r\n"),
        with("Content-Length: 3 4\r\n"),
        with("Content-Length:\r\n"),
        with("Content-Length: 99999999999999999999\r\n"),
        with("X: y\r\n folded: z\r\n"),
        with("X: y\r\n\tfolded\r\n"),
        with("X: y\nContent-Length: 3\r\n"),
        with("X: y\rContent-Length: 3\r\n"),
        with(std::string("X: a\0b\r\n", 8)),
        with("no colon\r\n"),
        with(": no name\r\n"),
        with("X Y: z\r\n"),
        with("Host: b\r\n"),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    for (const std::string& text : smuggled) {
      CAPTURE(text);
      CHECK(outcome(text) == 400);
    }
  }

  TEST_CASE("other versions, long URLs and too many headers have their own refusals") {
    CHECK(outcome("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == 505);
    CHECK(outcome("PRI * HTTP/2.0\r\n\r\n") == 505);
    CHECK(outcome("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n") == 414);
    std::string many;
    for (int i = 0; i < 101; ++i) many += "X: y\r\n";
    CHECK(outcome(with(many)) == 431);
    CHECK(outcome("GET / HTTP/1.1\r\nHost: a\r\n") == -1);
  }

  TEST_CASE("where a head ends does not depend on how its bytes arrive") {
    const std::string text = with("A: b\r\n") + "body\r\n\r\n";
    HeadScanner scanner;
    for (std::size_t size = 0; size <= text.size(); ++size) {
      const auto found = scanner.scan(std::string_view(text).substr(0, size));
      const bool whole = size >= with("A: b\r\n").size();
      CHECK((found == HeadScanner::Found::complete) == whole);
      if (whole) break;
    }
    CHECK(scanner.size() == with("A: b\r\n").size());
  }

  TEST_CASE("chunks are joined, however they are cut") {
    const std::string text = "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    for (std::size_t step = 1; step <= text.size(); ++step) {
      CHECK(read_body({Framing::Kind::chunked}, text, step) == "hello world");
    }
    CHECK(read_body({Framing::Kind::length, 3}, "abcdef", 2) == "abc");
  }

  TEST_CASE("a line of chunks may be as long as its limit, however it is cut") {
    const auto body = [](std::size_t size_line, std::size_t trailer) {
      return "0;" + std::string(size_line - 2, 'a') + "\r\n" + std::string(trailer, 'b') +
             "\r\n\r\n";
    };
    for (const auto& [text, read] :
         {std::pair(body(256, 4096), ""), std::pair(body(257, 1), "malformed"),
          std::pair(body(2, 4097), "malformed")}) {
      for (const std::size_t step : {std::size_t{1}, text.size()}) {
        CAPTURE(text.size());
        CHECK(read_body({Framing::Kind::chunked}, text, step) == read);
      }
    }
  }

  TEST_CASE("damaged chunks are refused") {
    for (const std::string text :
         {"x\r\n", "\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\nhello\r\n",
          "5\r\nhelloXX0\r\n\r\n", "10000000000000000\r\n", "5;a\nb\r\nhello\r\n",
          "5\r\nhello\n0\r\n\r\n"}) {
      for (const std::size_t step : {std::size_t{1}, text.size()}) {
        CAPTURE(text);
        CHECK(read_body({Framing::Kind::chunked}, text, step) == "malformed");
      }
    }
    CHECK(read_body({Framing::Kind::chunked}, "5;" + std::string(300, 'a'), 300) == "malformed");
    std::string trailers = "0\r\n";
    for (int i = 0; i < 1000; ++i) trailers += "Trailer: x\r\n";
    CHECK(read_body({Framing::Kind::chunked}, trailers, 100) == "malformed");
    CHECK(read_body({Framing::Kind::chunked}, "5\r\nhel", 1) == "incomplete");
  }

  TEST_CASE("answers end by length, chunks, the connection, or at once") {
    const auto read = [](std::string_view headers, std::string_view method = "GET") {
      return *read_response_head("HTTP/1.1 200 OK\r\n" + std::string(headers) + "\r\n", method);
    };
    CHECK(read("Content-Length: 5\r\n").framing.length == 5);
    CHECK(read("Transfer-Encoding: chunked\r\n").framing.kind == Framing::Kind::chunked);
    CHECK(read("").framing.kind == Framing::Kind::until_end);
    CHECK_FALSE(read("").keep_alive);
    CHECK(read("Content-Length: 5\r\n", "HEAD").framing.kind == Framing::Kind::none);
    CHECK_FALSE(read("Content-Length: 5\r\nConnection: close\r\n").keep_alive);
    for (const char* text : {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                             "HTTP/1.1 2x0 OK\r\n\r\n", "ICY 200 OK\r\n\r\n"}) {
      const auto head = read_response_head(text, "GET");
      REQUIRE_FALSE(head);
      CHECK(head.error().code == Errc::bad_http);
    }
  }
}
