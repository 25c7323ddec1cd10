#include "wire/frame.hpp"

#include <algorithm>

#include <doctest/doctest.h>

namespace farmesh::wire {
namespace {

using Prefix = std::array<std::byte, kPrefixBytes>;

Prefix good_prefix() {
  FramePrefix prefix;
  prefix.verb = Verb::step;
  prefix.reply = true;
  prefix.stream = 0x01020304;
  prefix.header_bytes = 0x1122;
  prefix.payload_bytes = 0x334455;
  return encode_prefix(prefix);
}

Errc error_with_byte(std::size_t offset, int value) {
  Prefix bytes = good_prefix();
  bytes[offset] = static_cast<std::byte>(value);
  const Result<FramePrefix> prefix = decode_prefix(bytes);
  return prefix ? Errc::ok : prefix.error().code;
}

Frame sample_frame() {
  Frame frame;
  frame.verb = Verb::open;
  frame.stream = 7;
  frame.header.assign(40, std::byte{1});
  AlignedBuffer payload(100);
  std::fill_n(payload.data(), 100, std::byte{2});
  frame.payload = Payload(std::move(payload));
  return frame;
}

}  // namespace

TEST_SUITE("wire/frame") {
  TEST_CASE("a prefix comes back as it was written") {
    const Result<FramePrefix> prefix = decode_prefix(good_prefix());
    REQUIRE(prefix);
    CHECK(prefix->version == kProtocolVersion);
    CHECK(prefix->verb == Verb::step);
    CHECK(prefix->reply);
    CHECK(prefix->stream == 0x01020304);
    CHECK(prefix->header_bytes == 0x1122);
    CHECK(prefix->payload_bytes == 0x334455);
  }

  TEST_CASE("a prefix begins with the letters FMSH and is little-endian") {
    const Prefix bytes = good_prefix();
    CHECK(std::equal(bytes.begin(), bytes.begin() + 4, as_view(std::string_view("FMSH")).begin()));
    CHECK(bytes[8] == std::byte{4});
    CHECK(bytes[11] == std::byte{1});
  }

  TEST_CASE("every wrong byte of a prefix has its own error") {
    for (std::size_t i = 0; i < 4; ++i) CHECK(error_with_byte(i, 0) == Errc::bad_magic);
    CHECK(error_with_byte(4, 0) == Errc::version_unsupported);
    CHECK(error_with_byte(4, kProtocolVersion + 1) == Errc::version_unsupported);
    CHECK(error_with_byte(5, 0) == Errc::bad_verb);
    CHECK(error_with_byte(5, 16) == Errc::bad_verb);
    CHECK(error_with_byte(6, 2) == Errc::bad_header);
    CHECK(error_with_byte(6, 3) == Errc::bad_header);
    CHECK(error_with_byte(7, 1) == Errc::bad_header);
    CHECK(error_with_byte(14, 2) == Errc::frame_too_large);
    CHECK(error_with_byte(15, 0xff) == Errc::frame_too_large);
    CHECK(error_with_byte(19, 0xff) == Errc::frame_too_large);
    for (std::size_t i = 20; i < 24; ++i) CHECK(error_with_byte(i, 1) == Errc::bad_header);
  }

  TEST_CASE("sizes at the maxima are accepted, one byte more is not") {
    FramePrefix prefix;
    prefix.header_bytes = kMaxHeaderBytes;
    prefix.payload_bytes = kMaxPayloadBytes;
    CHECK(decode_prefix(encode_prefix(prefix)));
    prefix.header_bytes = kMaxHeaderBytes + 1;
    CHECK(decode_prefix(encode_prefix(prefix)).error().code == Errc::frame_too_large);
    prefix.header_bytes = 0;
    prefix.payload_bytes = kMaxPayloadBytes + 1;
    CHECK(decode_prefix(encode_prefix(prefix)).error().code == Errc::frame_too_large);
  }

  TEST_CASE("every verb has a name, and no other number has one") {
    int named = 0;
    for (int i = 0; i < 256; ++i) named += name(static_cast<Verb>(i)) != "?";
    CHECK(named == 15);
  }

  TEST_CASE("a frame comes back as it was written") {
    const Frame frame = sample_frame();
    const std::vector<std::byte> bytes = encode_frame(frame);
    CHECK(bytes.size() == frame.wire_bytes());
    const Result<Frame> back = decode_frame(bytes);
    REQUIRE(back);
    CHECK(back->verb == frame.verb);
    CHECK(back->reply == frame.reply);
    CHECK(back->stream == frame.stream);
    CHECK(back->header == frame.header);
    CHECK(std::ranges::equal(back->payload.view(), frame.payload.view()));
  }

  TEST_CASE("a frame that is cut short or followed by more is refused, wherever it is cut") {
    std::vector<std::byte> bytes = encode_frame(sample_frame());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const Result<Frame> frame = decode_frame(ByteView(bytes).first(size));
      REQUIRE_FALSE(frame);
      CHECK(frame.error().code == Errc::bad_header);
    }
    bytes.push_back(std::byte{0});
    CHECK(decode_frame(bytes).error().code == Errc::bad_header);
  }
}

}  // namespace farmesh::wire
