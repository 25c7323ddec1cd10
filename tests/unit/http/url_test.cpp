#include "http/url.hpp"

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::http;

TEST_SUITE("http/url") {
  TEST_CASE("a URL is taken apart") {
    const auto url = parse_url("HTTPS://Us%65r:pw@Example.COM:8443/a%20b?x=1#part");
    REQUIRE(url);
    CHECK(url->scheme == "https");
    CHECK(url->user_info == "User:pw");
    CHECK(url->host == "example.com");
    CHECK(url->port == 8443);
    CHECK(url->target() == "/a%20b?x=1");
    CHECK(url->to_string() == "https://example.com:8443/a%20b?x=1");
  }

  TEST_CASE("ports and paths have their defaults, IPv6 keeps its brackets") {
    CHECK(parse_url("http://a")->port == 80);
    CHECK(parse_url("https://a?q")->target() == "/?q");
    const auto v6 = parse_url("http://[::1]:8080/");
    REQUIRE(v6);
    CHECK(v6->host == "::1");
    CHECK(v6->authority() == "[::1]:8080");
  }

  TEST_CASE("what is no URL is refused") {
    for (const char* text : {"", "http:", "ftp://a/", "//a/", "http:///x", "http://a b/",
                             "http://a/\r\nX: y", "http://a:0/", "http://a:65536/", "http://a:8x/",
                             "http://[::1/", "http://[::g]/", "http://a/%2", "http://a/%zz",
                             "http://\xC3\xA4/", "http://a/\xC3\xA4", "http://[::1]x/"}) {
      CAPTURE(text);
      const auto url = parse_url(text);
      REQUIRE_FALSE(url);
      CHECK(url.error().code == Errc::invalid_argument);
    }
    CHECK_FALSE(parse_url("http://a/" + std::string(9000, 'a')));
  }

  TEST_CASE("references are resolved against the URL they were found at") {
    const Url base = *parse_url("https://a:81/x/y?z");
    CHECK(resolve(base, "http://b/c")->to_string() == "http://b/c");
    CHECK(resolve(base, "//b/c")->to_string() == "https://b/c");
    CHECK(resolve(base, "/c")->to_string() == "https://a:81/c");
    CHECK(resolve(base, "c?d")->to_string() == "https://a:81/x/c?d");
    CHECK(resolve(base, "?d")->to_string() == "https://a:81/x/y?d");
  }

  TEST_CASE("queries are decoded in order, and damaged ones refused") {
    const auto query = parse_query("a=1&b=two+words&a=%C3%A4&flag&=x");
    REQUIRE(query);
    CHECK(query->get("a") == "1");
    CHECK(query->get("b") == "two words");
    CHECK(query->parameters[2].second == "\xC3\xA4");
    CHECK(query->get("flag") == "");
    CHECK_FALSE(query->get("c"));
    for (const char* text : {"a=%", "a=%4", "a=%C3", "a=%00", "%ED%A0%80=x", "a=%0D"}) {
      CAPTURE(text);
      CHECK_FALSE(parse_query(text));
    }
    std::string many;
    for (int i = 0; i < 300; ++i) many += "a=1&";
    CHECK_FALSE(parse_query(many));
  }

  TEST_CASE("percent-coding comes back as it was") {
    const std::string text = "meta-llama/Llama 2 \xE2\x82\xAC+&";
    CHECK(percent_encode(text) == "meta-llama%2FLlama%202%20%E2%82%AC%2B%26");
    CHECK(percent_decode(percent_encode(text)) == text);
  }

  TEST_CASE("only shortest forms of real characters are UTF-8") {
    CHECK(is_utf8("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"));
    for (const char* text :
         {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xF4\x90\x80\x80", "\xC3", "\xFF"}) {
      CHECK_FALSE(is_utf8(text));
    }
  }
}
