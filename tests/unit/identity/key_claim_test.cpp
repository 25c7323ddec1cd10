#include "identity/key_claim.hpp"

#include <optional>

#include <doctest/doctest.h>

#include "support/temp_dir.hpp"

using namespace farmesh;
using namespace farmesh::identity;

TEST_SUITE("identity/key_claim") {
  TEST_CASE("a key in use is not used twice, and is free again afterwards") {
    const test::TempDir folder;
    const auto file = folder.path() / "a.key";
    std::optional<Result<KeyClaim>> first(KeyClaim::of_file(file));
    REQUIRE(*first);
    const NodeId id = (*first)->key().id();
    const Result<KeyClaim> second = KeyClaim::of_file(file);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::config_invalid);
    first.reset();
    CHECK(KeyClaim::of_file(file)->key().id() == id);
  }

  TEST_CASE("nodes that share a folder keep their ids from start to start") {
    const test::TempDir folder;
    NodeId first;
    NodeId second;
    {
      const Result<KeyClaim> one = KeyClaim::in_folder(folder.path());
      const Result<KeyClaim> two = KeyClaim::in_folder(folder.path());
      first = one->key().id();
      second = two->key().id();
      CHECK(one->file() == folder.path() / "node.key");
      CHECK(two->file() == folder.path() / "node-2.key");
    }
    CHECK(first != second);
    const Result<KeyClaim> one = KeyClaim::in_folder(folder.path());
    const Result<KeyClaim> two = KeyClaim::in_folder(folder.path());
    CHECK(one->key().id() == first);
    CHECK(two->key().id() == second);
  }
}
