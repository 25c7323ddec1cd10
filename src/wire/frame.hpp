// A frame: 24 bytes of prefix, a schema'd header, a raw tensor payload (docs/wire-protocol.md).
//
// Value types and the prefix codec; nothing here allocates from a length that was not checked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"

namespace farmesh::wire {

inline constexpr std::uint8_t kProtocolVersion = 1;     // spoken and written by this build
inline constexpr std::uint8_t kMinProtocolVersion = 1;  // oldest still understood
inline constexpr std::size_t kPrefixBytes = 24;
inline constexpr std::uint32_t kMagic = 0x48534D46;  // "FMSH" in little-endian byte order
inline constexpr std::uint32_t kMaxHeaderBytes = 64u << 10;
inline constexpr std::uint32_t kMaxPayloadBytes = 64u << 20;

/// What a frame asks or tells. Numbers are the protocol's.
enum class Verb : std::uint8_t {
  hello = 1,      // who I am, what I serve; first frame both ways
  open = 2,       // start or re-route a session on this peer
  step = 3,       // rows for a session: forwarded along the route, answered to the driver
  truncate = 4,   // forget cache positions from here on
  replay = 5,     // send stored outputs again, to rebuild the stage after you
  history = 6,    // what do you still hold of this session?
  close = 7,      // free the session's pages at once
  receipt = 8,    // reserved: signed, cumulative account of work
  swarm = 9,      // whom do you know? signed records of nodes, by model and layers
  ping = 10,      // alive? and how loaded
  error = 11,     // a request failed, or a session cannot go on
  generate = 12,  // to a peer that hosts the head: run the generation loop
  token = 13,     // from that peer: one generated token, or the end
  reach = 14,     // can you dial me at this address?
  relay = 15,     // bring me together with a node that cannot be dialled, or keep me as one
};
std::string_view name(Verb verb) noexcept;

using HeaderBytes = std::vector<std::byte>;

struct Frame {
  Verb verb = Verb::ping;
  bool reply = false;        // answers the request with the same stream
  std::uint32_t stream = 0;  // chosen by the asking side; 0: no answer expected
  HeaderBytes header;        // FlatBuffers, one root table a verb (src/wire/farmesh.fbs)
  Payload payload;           // raw little-endian elements; dtype and rows are in the header

  std::size_t wire_bytes() const noexcept { return kPrefixBytes + header.size() + payload.size(); }
};

/// offset 0 magic u32 | 4 version u8 | 5 verb u8 | 6 flags u16 (bit 0 reply, rest 0) |
/// 8 stream u32 | 12 header bytes u32 | 16 payload bytes u32 | 20 reserved u32 (0).
/// All little-endian.
struct FramePrefix {
  std::uint8_t version = kProtocolVersion;
  Verb verb = Verb::ping;
  bool reply = false;
  std::uint32_t stream = 0;
  std::uint32_t header_bytes = 0;
  std::uint32_t payload_bytes = 0;
};

std::array<std::byte, kPrefixBytes> encode_prefix(const FramePrefix& prefix) noexcept;
/// The prefix that `frame` is written behind. Its sizes must be within the maxima.
FramePrefix prefix_of(const Frame& frame) noexcept;

/// Fails with bad_magic, version_unsupported, bad_verb, bad_header (unknown flag or reserved
/// bits) or frame_too_large.
Result<FramePrefix> decode_prefix(std::span<const std::byte, kPrefixBytes> bytes);

/// A whole frame from contiguous memory (tests, fuzzing); trailing bytes are an error.
Result<Frame> decode_frame(ByteView bytes);
/// The frame as one run of bytes.
std::vector<std::byte> encode_frame(const Frame& frame);

}  // namespace farmesh::wire
