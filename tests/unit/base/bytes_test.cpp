#include "base/bytes.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

namespace farmesh {
namespace {

std::string text_of(const Payload& payload) {
  return {reinterpret_cast<const char*>(payload.view().data()), payload.size()};
}

Payload payload_of(std::string_view text) { return Payload::copy_of(as_view(text)); }

}  // namespace

TEST_SUITE("base/bytes") {
  TEST_CASE("an aligned buffer begins on its boundary whatever its size") {
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{1000}}) {
      AlignedBuffer buffer(size);
      CHECK(buffer.size() == size);
      CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % AlignedBuffer::kAlignment == 0);
      std::fill(buffer.view().begin(), buffer.view().end(), std::byte{0xff});
    }
  }

  TEST_CASE("an empty buffer has an empty view") {
    CHECK(AlignedBuffer().view().empty());
    CHECK(AlignedBuffer(0).view().empty());
  }

  TEST_CASE("a buffer that was moved from is empty") {
    AlignedBuffer buffer(16);
    const std::byte* data = buffer.data();

    AlignedBuffer taken = std::move(buffer);
    CHECK(taken.data() == data);
    CHECK(taken.size() == 16);
    CHECK(buffer.view().empty());  // NOLINT(bugprone-use-after-move): what is being tested

    AlignedBuffer assigned(4);
    assigned = std::move(taken);
    CHECK(assigned.data() == data);
    CHECK(taken.view().empty());  // NOLINT(bugprone-use-after-move)
  }

  TEST_CASE("a payload made from a buffer keeps its bytes where they are") {
    AlignedBuffer buffer(8);
    const std::byte* data = buffer.data();
    CHECK(Payload(std::move(buffer)).view().data() == data);
  }

  TEST_CASE("a copied payload no longer depends on its source") {
    std::string source = "layers";
    const Payload payload = payload_of(source);
    source.assign(source.size(), 'x');
    CHECK(text_of(payload) == "layers");
  }

  TEST_CASE("a payload of no bytes is empty") {
    CHECK(Payload().empty());
    CHECK(Payload::copy_of({}).empty());
    CHECK(Payload().slice(0, 0).empty());
  }

  TEST_CASE("a slice shares the memory and outlives the payload it was cut from") {
    Payload part;
    {
      const Payload whole = payload_of("0123456789");
      part = whole.slice(2, 6);
      CHECK(part.view().data() == whole.view().data() + 2);
    }
    CHECK(text_of(part) == "234567");
  }

  TEST_CASE("a slice of a slice counts from the slice") {
    const Payload part = payload_of("0123456789").slice(2, 6).slice(1, 3);
    CHECK(text_of(part) == "345");
    CHECK(part.slice(3, 0).empty());
  }
}

}  // namespace farmesh
