#include "wire/reach.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "farmesh_generated.h"
#include "wire/messages.hpp"
#include "wire/tables.hpp"
#include "wire/text.hpp"

namespace farmesh::wire {
namespace {

using flatbuffers::FlatBufferBuilder;

constexpr std::string_view kPreambleMagic = "FMRELAY1";

Error unverified(const char* verb) {
  return {Errc::bad_header, std::string(verb) + ": not a table of the schema"};
}

Result<std::string> text_of(const flatbuffers::String* text, const char* field) {
  if (text == nullptr) return std::string();
  if (text->size() > kMaxTextField || !is_printable(text->string_view())) {
    return {Errc::bad_header, std::string("reach: ") + field + " is out of bounds"};
  }
  return text->str();
}

}  // namespace

HeaderBytes encode(const Reach& message) {
  FlatBufferBuilder builder;
  const auto address = builder.CreateString(message.address);
  return finished(builder, fb::CreateReach(builder, address));
}

HeaderBytes encode(const ReachReply& message) {
  FlatBufferBuilder builder;
  const auto seen = builder.CreateString(message.seen);
  return finished(builder, fb::CreateReachReply(builder, message.reached, seen));
}

HeaderBytes encode(const Relay& message) {
  FlatBufferBuilder builder;
  const fb::Bytes32 node = packed<fb::Bytes32>(message.node);
  const fb::Bytes32 ticket = packed<fb::Bytes32>(message.ticket);
  return finished(builder, fb::CreateRelay(builder, &node, &ticket));
}

HeaderBytes encode(const RelayReply& message) {
  FlatBufferBuilder builder;
  const fb::Bytes32 ticket = packed<fb::Bytes32>(message.ticket);
  return finished(builder, fb::CreateRelayReply(builder, &ticket));
}

template <>
Result<Reach> decode<Reach>(ByteView header) {
  const auto* table = verified<fb::Reach>(header);
  if (table == nullptr) return unverified("reach");
  auto address = text_of(table->address(), "address");
  if (!address) return address.error();
  return Reach{*std::move(address)};
}

template <>
Result<ReachReply> decode<ReachReply>(ByteView header) {
  const auto* table = verified<fb::ReachReply>(header);
  if (table == nullptr) return unverified("reach reply");
  auto seen = text_of(table->seen(), "seen");
  if (!seen) return seen.error();
  return ReachReply{table->reached(), *std::move(seen)};
}

template <>
Result<Relay> decode<Relay>(ByteView header) {
  const auto* table = verified<fb::Relay>(header);
  if (table == nullptr) return unverified("relay");
  return Relay{unpacked(table->node()), unpacked(table->ticket())};
}

template <>
Result<RelayReply> decode<RelayReply>(ByteView header) {
  const auto* table = verified<fb::RelayReply>(header);
  if (table == nullptr) return unverified("relay reply");
  return RelayReply{unpacked(table->ticket())};
}

std::array<std::byte, kPreambleBytes> encode_preamble(const RelayTicket& ticket) noexcept {
  std::array<std::byte, kPreambleBytes> bytes;
  std::memcpy(bytes.data(), kPreambleMagic.data(), kPreambleMagic.size());
  std::memcpy(bytes.data() + kPreambleMagic.size(), ticket.data(), ticket.size());
  return bytes;
}

std::optional<RelayTicket> decode_preamble(std::span<const std::byte, kPreambleBytes> bytes) {
  if (std::memcmp(bytes.data(), kPreambleMagic.data(), kPreambleMagic.size()) != 0) {
    return std::nullopt;
  }
  RelayTicket ticket;
  std::memcpy(ticket.data(), bytes.data() + kPreambleMagic.size(), ticket.size());
  return ticket;
}

}  // namespace farmesh::wire
