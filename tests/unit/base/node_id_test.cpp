#include "base/node_id.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace farmesh;

namespace {

const std::string kText = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

bool refused(std::string_view text, std::string_view reason) {
  const Result<NodeId> id = parse_node_id(text);
  return !id && id.error().code == Errc::address_invalid &&
         id.error().detail.find(reason) != std::string::npos;
}

}  // namespace

TEST_SUITE("base/node_id") {
  TEST_CASE("a node id is read and written as 64 digits, and shown as 12") {
    const Result<NodeId> id = parse_node_id(kText);
    REQUIRE(id);
    CHECK((*id)[1] == 0x11);
    CHECK(to_string(*id) == kText);
    CHECK(short_name(*id) == "001122334455");
  }

  TEST_CASE("digits may be of either case") {
    std::string upper = kText;
    for (char& c : upper) c = c >= 'a' && c <= 'f' ? static_cast<char>(c - 32) : c;
    REQUIRE(parse_node_id(upper));
    CHECK(*parse_node_id(upper) == *parse_node_id(kText));
  }

  TEST_CASE("what is no node id is refused with the reason") {
    CHECK(refused("", "64 hexadecimal digits"));
    CHECK(refused("hello", "64 hexadecimal digits"));
    CHECK(refused(kText + "00", "64 hexadecimal digits"));
    CHECK(refused("g" + kText.substr(1), "64 hexadecimal digits"));
    CHECK(refused("001122334455", "cut short"));
    CHECK(refused(std::string(64, '0'), "nobody"));
    CHECK(refused("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "libp2p"));
    CHECK(refused("12D3KooWGRYZDHBembyGJQqQ6WgLqJWYNjnECJwGBnCg8vbCeo8F", "libp2p"));
    CHECK(refused(std::string(1000, 'x'), "xxx"));
    CHECK(parse_node_id(std::string(1000, 'x')).error().detail.size() < 200);
  }
}
