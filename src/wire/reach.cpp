#include "wire/reach.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

#include <flatbuffers/flatbuffers.h>

#include "farmesh_generated.h"
#include "wire/messages.hpp"
#include "wire/text.hpp"

namespace farmesh::wire {
namespace {

using flatbuffers::FlatBufferBuilder;

constexpr std::string_view kPreambleMagic = "FMRELAY1";

HeaderBytes finished(FlatBufferBuilder& builder) {
  const auto* bytes = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {bytes, bytes + builder.GetSize()};
}

fb::Bytes32 packed(const std::array<std::uint8_t, 32>& bytes) {
  return fb::Bytes32(flatbuffers::span<const std::uint8_t, 32>(bytes.data(), bytes.size()));
}

std::array<std::uint8_t, 32> unpacked(const fb::Bytes32* packed) {
  std::array<std::uint8_t, 32> bytes{};
  if (packed != nullptr) std::copy_n(packed->data()->data(), bytes.size(), bytes.begin());
  return bytes;
}

/// The root table, once the buffer has been verified.
template <class Table>
Result<const Table*> root_of(ByteView header, const char* verb) {
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(header.data()),
                                 header.size());
  if (header.size() > kMaxHeaderBytes || !verifier.VerifyBuffer<Table>(nullptr)) {
    return {Errc::bad_header, std::string(verb) + ": not a table of the schema"};
  }
  return flatbuffers::GetRoot<Table>(header.data());
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
  builder.Finish(fb::CreateReach(builder, address));
  return finished(builder);
}

HeaderBytes encode(const ReachReply& message) {
  FlatBufferBuilder builder;
  const auto seen = builder.CreateString(message.seen);
  builder.Finish(fb::CreateReachReply(builder, message.reached, seen));
  return finished(builder);
}

HeaderBytes encode(const Relay& message) {
  FlatBufferBuilder builder;
  const fb::Bytes32 node = packed(message.node);
  const fb::Bytes32 ticket = packed(message.ticket);
  builder.Finish(fb::CreateRelay(builder, &node, &ticket));
  return finished(builder);
}

HeaderBytes encode(const RelayReply& message) {
  FlatBufferBuilder builder;
  const fb::Bytes32 ticket = packed(message.ticket);
  builder.Finish(fb::CreateRelayReply(builder, &ticket));
  return finished(builder);
}

template <>
Result<Reach> decode<Reach>(ByteView header) {
  const auto table = root_of<fb::Reach>(header, "reach");
  if (!table) return table.error();
  auto address = text_of((*table)->address(), "address");
  if (!address) return address.error();
  return Reach{*std::move(address)};
}

template <>
Result<ReachReply> decode<ReachReply>(ByteView header) {
  const auto table = root_of<fb::ReachReply>(header, "reach reply");
  if (!table) return table.error();
  auto seen = text_of((*table)->seen(), "seen");
  if (!seen) return seen.error();
  return ReachReply{(*table)->reached(), *std::move(seen)};
}

template <>
Result<Relay> decode<Relay>(ByteView header) {
  const auto table = root_of<fb::Relay>(header, "relay");
  if (!table) return table.error();
  return Relay{unpacked((*table)->node()), unpacked((*table)->ticket())};
}

template <>
Result<RelayReply> decode<RelayReply>(ByteView header) {
  const auto table = root_of<fb::RelayReply>(header, "relay reply");
  if (!table) return table.error();
  return RelayReply{unpacked((*table)->ticket())};
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
