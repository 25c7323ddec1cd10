#include "wire/frame.hpp"

#include <algorithm>
#include <string>

#include "base/assert.hpp"

namespace farmesh::wire {
namespace {

constexpr std::uint16_t kReplyFlag = 1;

template <class Integer>
void put(std::byte* at, Integer value) noexcept {
  for (std::size_t i = 0; i < sizeof value; ++i) {
    at[i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
  }
}

template <class Integer>
Integer get(const std::byte* at) noexcept {
  Integer value = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    value = static_cast<Integer>(value | static_cast<Integer>(at[i]) << (8 * i));
  }
  return value;
}

}  // namespace

std::string_view name(Verb verb) noexcept {
  switch (verb) {
    case Verb::hello: return "hello";
    case Verb::open: return "open";
    case Verb::step: return "step";
    case Verb::truncate: return "truncate";
    case Verb::replay: return "replay";
    case Verb::history: return "history";
    case Verb::close: return "close";
    case Verb::receipt: return "receipt";
    case Verb::swarm: return "swarm";
    case Verb::ping: return "ping";
    case Verb::error: return "error";
    case Verb::generate: return "generate";
    case Verb::token: return "token";
    case Verb::reach: return "reach";
    case Verb::relay: return "relay";
  }
  return "?";
}

std::array<std::byte, kPrefixBytes> encode_prefix(const FramePrefix& prefix) noexcept {
  std::array<std::byte, kPrefixBytes> bytes{};
  put(&bytes[0], kMagic);
  put(&bytes[4], prefix.version);
  put(&bytes[5], static_cast<std::uint8_t>(prefix.verb));
  put(&bytes[6], prefix.reply ? kReplyFlag : std::uint16_t{0});
  put(&bytes[8], prefix.stream);
  put(&bytes[12], prefix.header_bytes);
  put(&bytes[16], prefix.payload_bytes);
  return bytes;
}

Result<FramePrefix> decode_prefix(std::span<const std::byte, kPrefixBytes> bytes) {
  if (get<std::uint32_t>(&bytes[0]) != kMagic) return {Errc::bad_magic, "not a FarMesh frame"};
  FramePrefix prefix;
  prefix.version = get<std::uint8_t>(&bytes[4]);
  if (prefix.version < kMinProtocolVersion || prefix.version > kProtocolVersion) {
    return {Errc::version_unsupported, "frame of version " + std::to_string(prefix.version)};
  }
  prefix.verb = static_cast<Verb>(get<std::uint8_t>(&bytes[5]));
  if (name(prefix.verb) == "?") {
    return {Errc::bad_verb, "verb " + std::to_string(static_cast<int>(prefix.verb))};
  }
  const auto flags = get<std::uint16_t>(&bytes[6]);
  if ((flags & ~kReplyFlag) != 0) return {Errc::bad_header, "unknown flag in the frame prefix"};
  if (get<std::uint32_t>(&bytes[20]) != 0) {
    return {Errc::bad_header, "reserved bytes of the frame prefix are not zero"};
  }
  prefix.reply = flags == kReplyFlag;
  prefix.stream = get<std::uint32_t>(&bytes[8]);
  prefix.header_bytes = get<std::uint32_t>(&bytes[12]);
  prefix.payload_bytes = get<std::uint32_t>(&bytes[16]);
  if (prefix.header_bytes > kMaxHeaderBytes) {
    return {Errc::frame_too_large, "header of " + std::to_string(prefix.header_bytes) + " bytes"};
  }
  if (prefix.payload_bytes > kMaxPayloadBytes) {
    return {Errc::frame_too_large, "payload of " + std::to_string(prefix.payload_bytes) + " bytes"};
  }
  return prefix;
}

FramePrefix prefix_of(const Frame& frame) noexcept {
  FARMESH_ASSERT(frame.header.size() <= kMaxHeaderBytes);
  FARMESH_ASSERT(frame.payload.size() <= kMaxPayloadBytes);
  FramePrefix prefix;
  prefix.verb = frame.verb;
  prefix.reply = frame.reply;
  prefix.stream = frame.stream;
  prefix.header_bytes = static_cast<std::uint32_t>(frame.header.size());
  prefix.payload_bytes = static_cast<std::uint32_t>(frame.payload.size());
  return prefix;
}

Result<Frame> decode_frame(ByteView bytes) {
  if (bytes.size() < kPrefixBytes) {
    return {Errc::bad_header, "shorter than a frame prefix"};
  }
  const Result<FramePrefix> prefix = decode_prefix(bytes.first<kPrefixBytes>());
  if (!prefix) return prefix.error();
  const ByteView rest = bytes.subspan(kPrefixBytes);
  const std::uint64_t stated = std::uint64_t{prefix->header_bytes} + prefix->payload_bytes;
  if (rest.size() != stated) {
    return {Errc::bad_header, "states " + std::to_string(stated) + " bytes after the prefix, has " +
                                  std::to_string(rest.size())};
  }
  Frame frame;
  frame.verb = prefix->verb;
  frame.reply = prefix->reply;
  frame.stream = prefix->stream;
  const ByteView header = rest.first(prefix->header_bytes);
  frame.header.assign(header.begin(), header.end());
  if (prefix->payload_bytes > 0) frame.payload = Payload::copy_of(rest.subspan(header.size()));
  return frame;
}

std::vector<std::byte> encode_frame(const Frame& frame) {
  const std::array<std::byte, kPrefixBytes> prefix = encode_prefix(prefix_of(frame));
  const ByteView payload = frame.payload.view();
  std::vector<std::byte> bytes(frame.wire_bytes());
  auto at = std::copy(prefix.begin(), prefix.end(), bytes.begin());
  at = std::copy(frame.header.begin(), frame.header.end(), at);
  std::copy(payload.begin(), payload.end(), at);
  return bytes;
}

}  // namespace farmesh::wire
