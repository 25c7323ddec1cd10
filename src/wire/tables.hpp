// FlatBuffers' tables as all headers are made of them, and verified before a field is read.
//
// For the codecs of this room, which alone see the generated schema. Safe from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <flatbuffers/flatbuffers.h>

#include "base/assert.hpp"
#include "wire/frame.hpp"

namespace farmesh::wire {

// No table of ours nests deeper than Hello > Service, none has more tables than a full route.
inline constexpr flatbuffers::uoffset_t kMaxDepth = 8;
inline constexpr flatbuffers::uoffset_t kMaxTables = 512;

/// The verified root of `header`, or null.
template <class Table>
const Table* verified(ByteView header) {
  FARMESH_ASSERT(reinterpret_cast<std::uintptr_t>(header.data()) % 8 == 0);
  if (header.size() > kMaxHeaderBytes) return nullptr;
  const auto* data = reinterpret_cast<const std::uint8_t*>(header.data());
  flatbuffers::Verifier verifier(data, header.size(), kMaxDepth, kMaxTables);
  if (!verifier.VerifyBuffer<Table>(nullptr)) return nullptr;
  return flatbuffers::GetRoot<Table>(data);
}

template <class Table>
HeaderBytes finished(flatbuffers::FlatBufferBuilder& builder, flatbuffers::Offset<Table> root) {
  builder.Finish(root);
  const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return HeaderBytes(data, data + builder.GetSize());
}

/// Ids and small numbers are structs in the schema: laid out here, stored inline.
template <class Struct, class Bytes>
Struct packed(const Bytes& bytes) {
  static_assert(sizeof(Struct) == sizeof bytes);
  Struct out;
  std::memcpy(static_cast<void*>(&out), bytes.data(), sizeof out);
  return out;
}

/// All zero where the field is absent.
template <class Struct>
std::array<std::uint8_t, sizeof(Struct)> unpacked(const Struct* packed) {
  std::array<std::uint8_t, sizeof(Struct)> bytes{};
  if (packed != nullptr) std::memcpy(bytes.data(), packed, sizeof(Struct));
  return bytes;
}

}  // namespace farmesh::wire
