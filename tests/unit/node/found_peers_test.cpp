#include "node/found_peers.hpp"

#include <algorithm>

#include <doctest/doctest.h>

namespace farmesh::node {
namespace {

using Addresses = std::vector<std::string>;

bool nobody(const std::string&) { return false; }

}  // namespace

TEST_SUITE("node/found_peers") {
  TEST_CASE("who is told of is used, once, behind those that were named") {
    FoundPeers peers({"named"}, 4);
    CHECK(peers.look({"a", "named", "b"}, nobody).added == Addresses{"a", "b"});
    CHECK(peers.look({"b", "a"}, nobody).added.empty());
    CHECK(peers.all() == Addresses{"named", "a", "b"});
  }

  TEST_CASE(
      "there are so many and no more, and who is told of no more makes room, the oldest first") {
    FoundPeers peers({"named"}, 4);
    peers.look({"a", "b", "c"}, nobody);
    CHECK(peers.look({"a", "b", "c", "d"}, nobody).added.empty());
    const FoundPeers::Change change = peers.look({"c", "d"}, nobody);
    CHECK(change.added == Addresses{"d"});
    CHECK(change.dropped == Addresses{"a"});
    CHECK(peers.all() == Addresses{"named", "b", "c", "d"});
  }

  TEST_CASE("who is in use stays, told of or not, and so do those that were named") {
    FoundPeers peers({"named"}, 3);
    peers.look({"a", "b"}, nobody);
    const auto uses_a = [](const std::string& address) { return address == "a"; };
    CHECK(peers.look({"c", "d"}, uses_a).dropped == Addresses{"b"});
    CHECK(peers.all() == Addresses{"named", "a", "c"});
    CHECK(FoundPeers({"x", "y", "z"}, 2).look({"a"}, nobody).added.empty());
  }

  TEST_CASE("over a year of peers that come and go nothing grows") {
    FoundPeers peers({}, 128);
    for (int day = 0; day < 365; ++day) {
      Addresses told;
      for (int i = 0; i < 60; ++i) told.push_back(std::to_string(day * 20 + i));
      peers.look(told, nobody);
      REQUIRE(peers.all().size() <= 128);
      for (const std::string& address : told) {
        REQUIRE(std::find(peers.all().begin(), peers.all().end(), address) != peers.all().end());
      }
    }
  }
}

}  // namespace farmesh::node
