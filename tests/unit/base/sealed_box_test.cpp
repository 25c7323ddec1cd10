#include "base/sealed_box.hpp"

#include <doctest/doctest.h>

namespace farmesh {

TEST_SUITE("base/sealed_box") {
  TEST_CASE("what was sealed opens with the key, in its place, whole") {
    const SealedBox box({1, 2, 3});
    for (const std::string& plain : {std::string(), std::string("a"), std::string(100'000, 'x')}) {
      const std::string sealed = box.seal(plain, "here");
      CHECK(sealed.size() == plain.size() + 28);
      REQUIRE(box.open(sealed, "here"));
      CHECK(*box.open(sealed, "here") == plain);
      CHECK(box.seal(plain, "here") != sealed);
    }
  }

  TEST_CASE("another key, another place, a changed or missing byte: refused") {
    const SealedBox box({1, 2, 3});
    const std::string sealed = box.seal("some text", "here");
    CHECK_FALSE(SealedBox({1, 2, 4}).open(sealed, "here"));
    CHECK_FALSE(box.open(sealed, "there"));
    for (std::size_t i = 0; i < sealed.size(); ++i) {
      std::string changed = sealed;
      changed[i] = char(changed[i] ^ 1);
      CHECK_FALSE(box.open(changed, "here"));
      CHECK_FALSE(box.open(sealed.substr(0, i), "here"));
    }
  }
}

}  // namespace farmesh
