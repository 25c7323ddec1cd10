#include "http/metrics.hpp"

#include <string>

#include <doctest/doctest.h>

#include "http/ip_address.hpp"
#include "http/proxy.hpp"

using namespace farmesh;
using namespace farmesh::http;

TEST_SUITE("http/metrics") {
  TEST_CASE("the text has every kind, with labels and help") {
    Metrics metrics;
    metrics.counter("far_requests_total", "Requests.", {{"status", "ok \"x\""}}).add(2);
    metrics.counter("far_requests_total", "Requests.", {{"status", "ok \"x\""}}).add();
    metrics.gauge("far_nodes", "Nodes.").set(4);
    metrics.histogram("far_seconds", "Time.", {0.1, 1}).observe(0.5);
    const std::string text = metrics.text();
    for (const char* line :
         {"# HELP far_requests_total Requests.", "# TYPE far_requests_total counter",
          "far_requests_total{status=\"ok \\\"x\\\"\"} 3", "far_nodes 4",
          "far_seconds_bucket{le=\"0.1\"} 0", "far_seconds_bucket{le=\"1\"} 1",
          "far_seconds_bucket{le=\"+Inf\"} 1", "far_seconds_sum 0.5", "far_seconds_count 1"}) {
      CAPTURE(text);
      CHECK(text.find(line) != std::string::npos);
    }
  }
}

TEST_SUITE("http/ip_address") {
  TEST_CASE("a set holds what its prefixes cover") {
    const auto set = IpSet::parse({"10.0.0.0/8", "::1", "2001:db8::/33"});
    REQUIRE(set);
    const auto holds = [&](const char* text) { return set->contains(*IpAddress::parse(text)); };
    CHECK(holds("10.200.3.4"));
    CHECK(holds("::1"));
    CHECK(holds("2001:db8:7fff::1"));
    CHECK_FALSE(holds("11.0.0.1"));
    CHECK_FALSE(holds("2001:db8:8000::1"));
    for (const char* text : {"", "10.0.0.0/33", "10.0.0.0/", "::/129", "x", "1.2.3.4/-1"}) {
      const auto refused = IpSet::parse({text});
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == Errc::config_invalid);
    }
  }

  TEST_CASE("X-Forwarded-For counts as far back as proxies are trusted") {
    const IpSet trusted = *IpSet::parse({"10.0.0.0/8"});
    const auto client = [&](const char* peer, const char* forwarded) {
      return client_address(*IpAddress::parse(peer), forwarded, trusted).to_string();
    };
    CHECK(client("1.2.3.4", "9.9.9.9") == "1.2.3.4");
    CHECK(client("10.0.0.1", "9.9.9.9") == "9.9.9.9");
    CHECK(client("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2") == "9.9.9.9");
    CHECK(client("10.0.0.1", "2001:db8::7") == "2001:db8::7");
    CHECK(client("10.0.0.1", "6.6.6.6, nonsense") == "10.0.0.1");
    CHECK(client("10.0.0.1", "") == "10.0.0.1");
  }
}

TEST_SUITE("http/proxy") {
  TEST_CASE("NO_PROXY exempts domains, addresses and prefixes") {
    CHECK(is_exempt("*", "a.b"));
    CHECK(is_exempt("x, b.c", "a.b.c"));
    CHECK(is_exempt(".b.c", "a.b.c"));
    CHECK(is_exempt("127.0.0.0/8,::1", "127.0.0.1"));
    CHECK_FALSE(is_exempt("b.c", "ab.c"));
    CHECK_FALSE(is_exempt("10.0.0.0/8", "127.0.0.1"));
    CHECK_FALSE(is_exempt("", "a"));
  }
}
