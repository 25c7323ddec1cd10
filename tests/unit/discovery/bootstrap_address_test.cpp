#include "discovery/bootstrap_address.hpp"

#include <doctest/doctest.h>

#include "base/node_id.hpp"

namespace farmesh {

using discovery::parse_bootstrap;

TEST_SUITE("discovery/bootstrap addresses") {
  TEST_CASE("every form is read") {
    const std::string id = "/p2p/" + std::string(64, 'a');
    const std::pair<const char*, const char*> forms[] = {
        {"203.0.113.7:31337", "203.0.113.7:31337"},
        {"[2001:db8::1]:31337", "[2001:db8::1]:31337"},
        {"/ip4/203.0.113.7/tcp/31337", "203.0.113.7:31337"},
        {"/ip6/2001:db8::1/tcp/31337", "[2001:db8::1]:31337"},
        {"/dns/boot.example.org/tcp/31337", "boot.example.org:31337"},
        {"/ip4/boot.example.org/tcp/31337", "boot.example.org:31337"},
    };
    for (const auto& [text, dht] : forms) {
      CAPTURE(text);
      for (const std::string& full : {std::string(text), text + id}) {
        const auto parsed = parse_bootstrap(full);
        REQUIRE(parsed);
        REQUIRE(parsed->size() == 1);
        CHECK(parsed->front().dht == dht);
        CHECK(parsed->front().peer == full);
      }
    }
  }

  TEST_CASE("a UDP address is asked in the DHT alone") {
    const auto parsed = parse_bootstrap("/ip4/203.0.113.7/udp/31337");
    REQUIRE(parsed);
    CHECK(parsed->front().dht == "203.0.113.7:31337");
    CHECK(parsed->front().peer.empty());
  }

  TEST_CASE("several are separated by commas or blanks, and none is an empty list") {
    const auto three = parse_bootstrap(" a:1, /dns/b/tcp/2\n c:3,");
    REQUIRE(three);
    CHECK(three->size() == 3);
    REQUIRE(parse_bootstrap(""));
    CHECK(parse_bootstrap(" , ")->empty());
  }

  TEST_CASE("an id of another network is named in the error") {
    const std::string foreign = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
    const auto parsed = parse_bootstrap("/ip4/203.0.113.7/tcp/31337/p2p/" + foreign);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::address_invalid);
    CHECK(parsed.error().detail.find(foreign.substr(0, 10)) != std::string::npos);
  }

  TEST_CASE("what is no address is named in the error") {
    for (const char* text :
         {"a", "a:", "a:0", "/ip4/a/tcp", "/ip4/a/quic/1", "/x/a/tcp/1", "a:99999"}) {
      CAPTURE(text);
      const auto parsed = parse_bootstrap(std::string("ok:1,") + text);
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().code == Errc::address_invalid);
      CHECK(parsed.error().detail.find(text) != std::string::npos);
    }
  }

  TEST_CASE("a list has an end") {
    std::string list;
    for (std::size_t i = 0; i <= discovery::kMaxBootstrapAddresses; ++i) list += "a:1,";
    CHECK_FALSE(parse_bootstrap(list));
  }
}

}  // namespace farmesh
