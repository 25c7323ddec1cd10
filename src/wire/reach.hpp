// The headers of `reach` (can you dial me?) and `relay` (bring us together), and the first bytes of
// a connection that a relay is to splice.
//
// encode() and decode() behave as those of messages.hpp. Safe from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "wire/frame.hpp"

namespace farmesh::wire {

/// Names one end of a splice, to the relay that made it up; works once.
using RelayTicket = std::array<std::uint8_t, 32>;

/// Asks whether the asker's key answers at `address`.
struct Reach {
  std::string address;  // "HOST:PORT", numeric
};
struct ReachReply {
  bool reached = false;
  std::string seen;  // the host that the question came from, numeric
};

/// To a relay: with a node, a ticket to it is wanted; without one, the asker wants to be kept.
/// From a relay to a node that it keeps, on stream 0: who wants to come, and the ticket.
struct Relay {
  NodeId node{};
  RelayTicket ticket{};
};
struct RelayReply {
  RelayTicket ticket{};  // all zero where none was asked for
};

HeaderBytes encode(const Reach& message);
HeaderBytes encode(const ReachReply& message);
HeaderBytes encode(const Relay& message);
HeaderBytes encode(const RelayReply& message);

template <class Message>
Result<Message> decode(ByteView header);

template <>
Result<Reach> decode<Reach>(ByteView header);
template <>
Result<ReachReply> decode<ReachReply>(ByteView header);
template <>
Result<Relay> decode<Relay>(ByteView header);
template <>
Result<RelayReply> decode<RelayReply>(ByteView header);

/// "FMRELAY1" and the ticket. TLS, which begins any other connection, begins with 0x16.
inline constexpr std::size_t kPreambleBytes = 40;
inline constexpr std::byte kPreambleBegins{'F'};
std::array<std::byte, kPreambleBytes> encode_preamble(const RelayTicket& ticket) noexcept;
std::optional<RelayTicket> decode_preamble(std::span<const std::byte, kPreambleBytes> bytes);

}  // namespace farmesh::wire
